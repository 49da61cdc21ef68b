"""Sizes, docstrings and dead modules: what else of the house style a program can see. Run by tests and `make check`.

Aim for files under 300 lines and functions under 50; over 600 and 70 something wants to be split.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from source_tree import ROOT, Module, imports, modules, read, resolve

FILE_LINES_MAX: Final = 600
FILE_LINES_AIM: Final = 300
FUNCTION_LINES_MAX: Final = 70
POSITIONAL_MAX: Final = 5

#: Modules that nothing in the packages imports, and why they live all the same. Entry points are read from pyproject.
ROOTS: Final[dict[str, str]] = {
    "cosessiond.store.memory": "the oracle of the tests and the specification of the store",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def violations(root: Path = ROOT, roots: Collection[str] = tuple(ROOTS)) -> list[str]:
    """Everything over its size, without its docstring or dead, each as a line to read and act on."""
    ours = modules(root)
    files = list(ours.values())
    tests = [read(path, path.stem) for path in sorted((root / "tests").rglob("*.py"))]
    found = [f"{m.path.relative_to(root)}:{line}: {why}" for m in files + tests for line, why in _sizes(m)]
    found += [f"{m.path.relative_to(root)}:{line}: {why}" for m in files for line, why in _undocumented(m)]
    advice = "is imported by nothing; do: use it, delete it, or say in sizes.ROOTS what runs it"
    found += [f"{ours[name].path.relative_to(root)}:1: {name} {advice}" for name in _dead(ours, root, roots)]
    stale = [name for name in roots if name not in ours]
    return found + [f"tests/sizes.py:1: ROOTS names {name}, which does not exist; do: remove it" for name in stale]


def warnings(root: Path = ROOT) -> list[str]:
    """The files over the aim, largest first."""
    over = sorted((m for m in modules(root).values() if m.lines > FILE_LINES_AIM), key=lambda m: -m.lines)
    return [f"{m.path.relative_to(root)}: {m.lines} lines, aim for {FILE_LINES_AIM}" for m in over]


def _sizes(module: Module) -> Iterator[tuple[int, str]]:
    if module.lines > FILE_LINES_MAX:
        yield FILE_LINES_MAX + 1, f"{module.lines} lines, at most {FILE_LINES_MAX}; do: split it by subject"
    if module.text.strip() and not ast.get_docstring(module.tree):
        yield 1, "no module docstring; do: say what the file owns and its one rule"
    for function in (node for node in ast.walk(module.tree) if isinstance(node, Function)):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield function.lineno, f"{function.name}() has {lines} lines, at most {FUNCTION_LINES_MAX}"
        positional = [*function.args.posonlyargs, *function.args.args]
        if positional and positional[0].arg in {"self", "cls"}:
            positional = positional[1:]
        if len(positional) > POSITIONAL_MAX and not function.name.startswith("test_"):  # fixtures go by name
            over = f"{len(positional)} positional parameters, at most {POSITIONAL_MAX}"
            yield function.lineno, f"{function.name}() takes {over}; do: make the rest keyword-only"


def _undocumented(module: Module) -> Iterator[tuple[int, str]]:
    """Public functions, classes and their methods without a docstring; what is nested in a function is private."""
    if not module.text.strip():
        yield 1, "empty; do: write its docstring"
    queue: list[tuple[str, ast.stmt]] = [("", node) for node in module.tree.body]
    while queue:
        prefix, node = queue.pop(0)
        if isinstance(node, ast.If | ast.Try):
            queue += [(prefix, child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_") or _repeats(node):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, f"{prefix}{node.name} has no docstring; do: say what it promises"
        if isinstance(node, ast.ClassDef):
            queue += [(f"{prefix}{node.name}.", child) for child in node.body]


def _repeats(node: Function | ast.ClassDef) -> bool:
    """Whether the docstring stands elsewhere: an overload, the setter of a property, a marked override."""
    marks = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
    return bool(marks & {"overload", "override", "setter", "deleter"})


def _dead(ours: dict[str, Module], root: Path, roots: Collection[str]) -> list[str]:
    """Modules that no other module imports or names; a package lives while anything in it does."""
    used = set(roots) | _entry_points(root) | {"cosession", "cosessiond"}
    for module in ours.values():
        targets = {resolve(each.target, ours) for each in imports(module)} | set(_named(module, ours))
        used |= {target for target in targets if target and target != module.name}
    for name in list(used):
        parts = name.split(".")
        used |= {".".join(parts[:count]) for count in range(1, len(parts))}
    return [name for name in ours if name not in used]


def _named(module: Module, ours: dict[str, Module]) -> Iterator[str]:
    """Modules named in string constants, as tables of lazy imports do: `"cosession.cli.store"`, also with `:main`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if name in ours:
                yield name


def _entry_points(root: Path) -> set[str]:
    pyproject = root / "pyproject.toml"
    if not pyproject.exists():
        return set()
    scripts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["scripts"]
    return {target.partition(":")[0] for target in scripts.values()}


def main() -> int:
    """Print what is over, and the files over the aim as a warning; 1 if anything is over."""
    for line in warnings():
        print(f"note: {line}")
    found = violations()
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
