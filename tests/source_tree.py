"""The two packages as text: their modules, parsed, and what each imports. For the checkers; imports nothing of ours.

Rule: read-only, standard library only, and every function takes the root, so that tests can hand in a seeded tree.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"cosession": Path("client/cosession"), "cosessiond": Path("daemon/cosessiond")}


@dataclass(frozen=True)
class Module:
    """One source file; `name` is dotted and says `cosession.messages` for `messages/__init__.py`."""

    name: str
    path: Path
    tree: ast.Module
    text: str

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@dataclass(frozen=True)
class Import:
    """One imported name: `import a.b` gives `a.b`, `from a import b` gives `a.b` too, whether b is a module or not."""

    target: str
    line: int


def modules(root: Path = ROOT) -> dict[str, Module]:
    """All modules of both packages under `root`, by dotted name."""
    found: dict[str, Module] = {}
    for package, place in PACKAGES.items():
        base = root / place
        for path in sorted(base.rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            module = read(path, ".".join((package, *parts)))
            found[module.name] = module
    return found


def read(path: Path, name: str) -> Module:
    """One file as a module."""
    text = path.read_text(encoding="utf-8")
    return Module(name=name, path=path, tree=ast.parse(text, filename=str(path)), text=text)


def imports(module: Module) -> Iterator[Import]:
    """What a module imports, at any depth: inside a function or under TYPE_CHECKING it is knowledge all the same."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                yield Import(base if alias.name == "*" else f"{base}.{alias.name}", node.lineno)


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of the module that a `from` import names."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    up = node.level - 1 if module.is_package else node.level
    return ".".join(parts[: len(parts) - up] + ([node.module] if node.module else []))


def resolve(target: str, known: Container[str]) -> str | None:
    """The module an imported name lives in: itself or the nearest parent that is a module; None if it is not ours."""
    while target:
        if target in known:
            return target
        target = target.rpartition(".")[0]
    return None
