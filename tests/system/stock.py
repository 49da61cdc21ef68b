"""What a machine has in stock: this project as two wheels, the tree's version and a later one, and what they depend on.

Rule: nothing is fetched; what is installed beside this Python is copied.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Final

from cosession._version import __version__
from source_tree import ROOT
from system.machine import HOME, Machine

STOCK: Final = Path("/opt/cosession")
LATER: Final = f"{__version__}.post1"
#: With what each of them needs in turn; none of them needs anything else.
_DISTRIBUTIONS: Final = ("msgspec", "portalocker", "psutil", "sortedcontainers", "structlog", "watchdog", "pip")
VENV: Final = HOME / "venv"


def lay_in(root: Path) -> None:
    """Put it all under `root`, before the machine boots."""
    stock = root / STOCK.relative_to("/")
    packages = stock / "packages"
    packages.mkdir(parents=True)
    for name in _DISTRIBUTIONS:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            found = Path(str(distribution.locate_file(top)))
            if found.is_dir():
                shutil.copytree(found, packages / top, ignore=shutil.ignore_patterns("__pycache__"))
            elif found.is_file():
                shutil.copy(found, packages / top)
    _build(stock / "now", later=False)
    _build(stock / "later", later=True)


def install(machine: Machine, which: str, *, venv: Path = VENV) -> None:
    """Install the wheel `now` or `later` into the user's environment, as `pip install -U` does."""
    python = venv / "bin" / "python"
    if not machine.path(python).is_symlink():
        machine.user(f"{sys.base_prefix}/bin/python3", "-m", "venv", "--without-pip", str(venv))
        site = f"{venv}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        machine.user("sh", "-c", f"echo {STOCK}/packages > {site}/stock.pth")
    (wheel,) = machine.path(STOCK / which).glob("*.whl")
    options = ["--no-deps", "--no-index", "--force-reinstall", "--disable-pip-version-check", "-qq"]
    machine.user(str(python), "-m", "pip", "install", *options, f"{STOCK}/{which}/{wheel.name}")


def _build(into: Path, *, later: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="cs-wheel-") as place:
        tree = Path(place) / "tree"
        tree.mkdir()
        for name in ("client", "daemon", "launchd", "systemd"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree / name)
        if later:
            version = tree / "client/cosession/_version.py"
            version.write_text(version.read_text().replace(f'"{__version__}"', f'"{LATER}"'))
        command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-qq"]
        subprocess.run([*command, "--disable-pip-version-check", "-w", str(into), str(tree)], check=True)
