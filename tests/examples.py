"""The examples of docstrings: found, run against a daemon, and what they show compared with what comes.

An example is a block indented by four spaces in a docstring. An expression followed by `# -> X` must have X as its
repr; `...` in X stands for any text. `client` is there, connected; so is `cosession`. Where a docstring awaits, so does
its example.

Rule: nothing in a block is changed but that the values of those expressions are looked at.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import api
import cosession
from cosession import aio, sync
from tour import matches

#: Where examples stand.
PACKAGES: Final = (("cosession", cosession), ("cosession.sync", sync), ("cosession.aio", aio))
_SHOWS: Final = re.compile(r"  # -> (.*)$")
_SEEN: Final = "_seen"


@dataclass(frozen=True)
class Example:
    """One block, and whose docstring it stands in."""

    name: str
    code: str


def examples() -> list[Example]:
    """Every example of both clients, each once."""
    found = [
        Example(name, block)
        for module_name, module in PACKAGES
        for name, thing in public(module_name, module)
        for block in blocks(inspect.getdoc(thing) or "")
    ]
    return list({(example.code, "aio" in example.name): example for example in reversed(found)}.values())


def public(module_name: str, module: Any) -> Iterator[tuple[str, Any]]:
    """The module, its public names, and the public members of its classes, each with its full name."""
    yield module_name, module
    for name in module.__all__:
        thing = getattr(module, name)
        if not inspect.isclass(thing) and not inspect.isroutine(thing):
            continue
        yield f"{module_name}.{name}", thing
        if inspect.isclass(thing):
            for member in api.members_of(thing):
                yield f"{module_name}.{name}.{member}", getattr(thing, member)


def blocks(doc: str) -> list[str]:
    """The indented blocks of a docstring."""
    found = re.findall(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", doc + "\n")
    return [textwrap.dedent(each).strip("\n") for each in found]


def run(code: str, **names: Any) -> list[str]:
    """What was not as shown; raises what the example raises."""
    shown = {
        number: found[1]
        for number, line in enumerate(code.splitlines(), 1)
        if (found := _SHOWS.search(line)) is not None
    }
    seen: dict[int, list[str]] = {}

    def look(number: int, value: object) -> None:
        seen.setdefault(number, []).append(repr(value))

    tree = _Look(shown).visit(ast.parse(code))
    program = compile(ast.fix_missing_locations(tree), "<example>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    space = {"cosession": cosession, _SEEN: look, **names}
    waiting = eval(program, space)  # noqa: S307 - the examples are ours
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)
    wrong = []
    for number, text in shown.items():
        came = ", ".join(seen.get(number, ["nothing"]))
        if not matches(text + "\n", came + "\n"):
            wrong.append(f"{code.splitlines()[number - 1].strip()}  (came: {came})")
    return wrong


class _Look(ast.NodeTransformer):
    """Lets the values of shown expressions be looked at."""

    def __init__(self, shown: dict[int, str]) -> None:
        self._shown = shown

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        number = node.end_lineno or 0
        if number in self._shown:
            node.value = ast.Call(ast.Name(_SEEN, ast.Load()), [ast.Constant(number), node.value], [])
        return node
