"""Where the proofs run: a private copy of the built package and of the tests, with an interpreter of its own.

Whoever installs the package anew beside a proof, or edits a test, changes nothing for what runs: `make prove` goes on
for an hour, and what it counts is of the sources that it began with.

Rule: the copy is made while nobody installs, and removed at the end; what a killed run left, the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from source_tree import PACKAGES, ROOT

_RUN: Final = "run-"
#: What tests read of the tree beside themselves.
_COPIED: Final = ("client", "daemon", "systemd", "launchd", "tests", "pyproject.toml", "README.md", "CHANGELOG.md")
_COMMANDS: Final = {"cosession": "cosession.cli.main", "cosessiond": "cosessiond.__main__"}


class Place(NamedTuple):
    """A tree that looks like the repository, and the interpreter that finds its packages."""

    root: Path
    python: str

    @property
    def tests(self) -> Path:
        """Where the tools are."""
        return self.root / "tests"


HERE: Final = Place(ROOT, sys.executable)


class Busy(Exception):
    """Another run counts in the same directory."""


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Nobody else counts in this directory meanwhile; raises Busy."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"cannot prove: another run counts in {directory}; do: wait for it, or name another place by --state"
            ) from None
        yield


@contextlib.contextmanager
def private_copy(directory: Path) -> Iterator[Place]:
    """A copy below `directory`, which is held by `alone`, of what is installed for this interpreter."""
    for left in directory.glob(f"{_RUN}*"):
        shutil.rmtree(left, ignore_errors=True)
    root = Path(tempfile.mkdtemp(prefix=_RUN, dir=directory)).resolve()
    try:
        with _nobody_installs():
            _copy(root)
        yield Place(root, _interpreter(root))
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _nobody_installs() -> Iterator[None]:
    """`make` holds the same lock, on the environment's directory, while it installs."""
    directory = os.open(sys.prefix, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_SH)
        yield
    finally:
        os.close(directory)


def _copy(root: Path) -> None:
    """The tree, with the packages as they are installed."""
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy2(ROOT / name, root / name)
    for package, place in PACKAGES.items():
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.submodule_search_locations is not None
        shutil.rmtree(root / place)
        shutil.copytree(found.submodule_search_locations[0], root / place, ignore=unwanted)


def _interpreter(root: Path) -> str:
    """One that finds the copied packages first, then whatever is installed for this one."""
    venv.EnvBuilder(symlinks=True).create(root / "venv")
    python = root / "venv" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    first = [str(root / place.parent) for place in PACKAGES.values()]
    after = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"
    packages = root / "venv" / "lib" / version / "site-packages"
    (packages / "copied.pth").write_text("\n".join([*first, after]) + "\n", encoding="utf-8")
    for command, module in _COMMANDS.items():
        script = python.with_name(command)
        script.write_text(
            f"#!{python}\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n", encoding="utf-8"
        )
        script.chmod(0o755)
    return str(python)
