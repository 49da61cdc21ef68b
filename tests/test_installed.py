"""The tests see the installed wheel, never the tree, and the wheel is the tree's."""

import ast
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import cosession
import cosession._version
import cosessiond
import source_tree
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


def shown_texts(module: source_tree.Module) -> Iterator[ast.Constant]:
    """The string constants of a module that are no docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value) for node in ast.walk(module.tree) if isinstance(node, documented) and _has(node)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def _has(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def test_nothing_shown_to_users_sends_them_to_a_file_they_do_not_have() -> None:
    """The wheel holds no document: a message says the thing itself."""
    found = [
        f"{module.name}:{node.lineno}: {node.value}"
        for module in source_tree.modules().values()
        for node in shown_texts(module)
        if re.search(r"\w\.md\b|\bDESIGN\b|\bARCHITECTURE\b|\bREADME\b", str(node.value))
    ]
    assert not found


def test_a_document_named_in_a_message_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text('"""See README.md."""\nraise ValueError(f"cannot: {1}; see client/PROTOCOL.md")\n')
    texts = [node.value for node in shown_texts(source_tree.read(path, "x"))]
    assert "; see client/PROTOCOL.md" in texts
    assert "See README.md." not in texts
