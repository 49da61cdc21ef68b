"""The tests see the installed wheel, never the tree, and the wheel is the tree's."""

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import cosession
import cosession._version
import cosessiond
from source_tree import PACKAGES, ROOT

SITE_PACKAGES = Path(sysconfig.get_path("purelib")).resolve()


@pytest.mark.parametrize("package", [cosession, cosessiond])
def test_package_is_the_installed_one(package):
    assert Path(package.__file__).resolve().is_relative_to(SITE_PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_child_processes_see_the_installed_one(package):
    command = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert Path(printed.strip()).resolve().is_relative_to(SITE_PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_holds_every_file_of_the_tree(package):
    tree = ROOT / PACKAGES[package]
    files = [path for path in tree.rglob("*") if path.is_file() and not _is_cache(path.relative_to(tree))]
    assert files
    stale = [
        str(path.relative_to(tree))
        for path in files
        if not (installed := SITE_PACKAGES / package / path.relative_to(tree)).is_file()
        or installed.read_bytes() != path.read_bytes()
    ]
    assert stale == [], "the wheel is older than the tree; do: make test"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package):
    assert (SITE_PACKAGES / package / "py.typed").is_file()


def test_version_stands_in_one_place():
    assert metadata.version("cosession") == cosession._version.__version__


@pytest.mark.parametrize("command", ["cosession", "cosessiond"])
def test_command_is_installed(command):
    (entry,) = metadata.entry_points(group="console_scripts", name=command)
    assert callable(entry.load())
    assert (Path(sysconfig.get_path("scripts")) / command).is_file()


def _is_cache(path: Path) -> bool:
    """What tools leave behind: git ignores it, and so does the wheel."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)
