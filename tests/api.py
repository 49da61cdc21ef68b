"""The public API as text, one fact a line: what a program, a script or another client can depend on.

Every public name of `cosession` and `cosession.aio` with its parameters, the structs handed out and their fields, the
errors, the catalogue of codes, every method on the wire, every verb of the command line. `tests/data/api.txt` holds it
as it was last agreed on. After a change on purpose: `make test ARGS="tests/test_api.py"`, then
`.venv/bin/python tests/api.py`; what that changes in the file is what the change does to users.

Rule: taken from the installed packages by looking at them, never from the source; text of docstrings is no part of it.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

import cosession
from cosession import aio, errors, sync
from cosession.cli import main, options
from cosession.exchange import cursor
from cosession.messages import REQUESTS, reply_type
from documents import STRUCTURES
from source_tree import ROOT

SNAPSHOT: Final = ROOT / "tests" / "data" / "api.txt"
ACCEPT: Final = ".venv/bin/python tests/api.py"
#: What a class can be used for beside its methods: `with`, `for`, `await`.
PROTOCOLS: Final = (
    "__enter__",
    "__exit__",
    "__iter__",
    "__next__",
    "__aenter__",
    "__aexit__",
    "__aiter__",
    "__anext__",
)
#: Attributes of an exception that are no promise of ours.
_FOREIGN: Final = frozenset(dir(Exception))


def text() -> str:
    """The whole API: a heading flush left, what belongs to it indented under it."""
    parts = (
        names("cosession", cosession),
        names("cosession.aio", aio),
        structures(),
        catalogue(),
        methods(),
        verbs(),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def difference(agreed: str, now: str) -> list[str]:
    """What was lost (-) and what came (+), each line with the heading it stands under."""
    return [
        line
        for line in difflib.unified_diff(_full(agreed), _full(now), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]


def _full(text: str) -> list[str]:
    found, heading = [], ""
    for line in text.splitlines():
        if line.startswith(" "):
            found.append(f"{heading} | {line.strip()}")
        else:
            heading = line
            found.append(line)
    return found


# -- the library -----------------------------------------------------------------------------------------------------


def names(module_name: str, module: Any) -> Iterator[str]:
    """Every name of `__all__`; structs and errors are told apart, and told under their own headings."""
    for name in sorted(module.__all__):
        thing = getattr(module, name)
        full = f"{module_name}.{name}"
        if inspect.isclass(thing) and issubclass(thing, Struct):
            yield f"{full}: struct {thing.__name__}"
        elif inspect.isclass(thing) and issubclass(thing, BaseException):
            yield from error(full, thing)
        elif inspect.isclass(thing):
            yield from members(full, thing)
        elif inspect.isroutine(thing):
            yield from function(full, thing)
        else:
            yield f"{full}: {type(thing).__name__}"


def members(full: str, kind: type) -> Iterator[str]:
    """The class, its attributes and properties with their types, its methods with their parameters.

    How it is made is no part of it: `connect` and the methods of a client do that.
    """
    yield f"class {full}"
    for name, annotation in sorted(attributes(kind).items()):
        yield f"    {name}: {annotation}"
    found = members_of(kind)
    for name, member in found.items():
        if isinstance(member, property):
            yield f"    property {name}: {inspect.signature(typing.cast('Any', member.fget)).return_annotation}"
    for name, member in found.items():
        if inspect.isfunction(member):
            yield from function(f"{full}.{name}", member)


def members_of(kind: type) -> dict[str, Any]:
    """The methods and properties that are public, those of its protocols among them, in alphabetical order."""
    names = [name for name in sorted(dir(kind)) if not name.startswith("_") or name in PROTOCOLS]
    members = {name: inspect.getattr_static(kind, name) for name in names}
    return {name: member for name, member in members.items() if isinstance(member, property | types.FunctionType)}


def attributes(kind: type) -> dict[str, str]:
    """The public attributes that the bodies of a class and its bases declare, with their types as written."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        annotations = inspect.get_annotations(base) if base.__module__.startswith("cosession") else {}
        found |= {name: _type_text(each) for name, each in annotations.items() if not name.startswith("_")}
    return found


def function(full: str, thing: Any) -> Iterator[str]:
    """Its name and what it returns, then its parameters in order: before `/` by place only, behind `*` by name only."""
    signature = inspect.signature(thing)
    word = "async def" if inspect.iscoroutinefunction(thing) else "def"
    yield f"{word} {full} -> {signature.return_annotation}"
    stars = False
    slash = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if slash and parameter.kind != parameter.POSITIONAL_ONLY:
            yield "    /"
        slash = parameter.kind == parameter.POSITIONAL_ONLY
        if parameter.kind == parameter.KEYWORD_ONLY and not stars:
            yield "    *"
        stars = stars or parameter.kind in (parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY)
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        yield f"    {star}{parameter.name}: {parameter.annotation}{default}"
    if slash:
        yield "    /"


def error(full: str, kind: type[errors.CosessionError]) -> Iterator[str]:
    """The error with its code, what it derives from, and what can be read from it."""
    yield f"error {full}({kind.__bases__[0].__name__}): {kind.code}"
    for name, annotation in sorted(attributes(kind).items()):
        yield f"    {name}: {annotation}"
    for name in sorted(set(vars(kind)) - _FOREIGN):
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property):
            yield f"    property {name}: {inspect.signature(typing.cast('Any', member.fget)).return_annotation}"


# -- data ------------------------------------------------------------------------------------------------------------


def structures() -> Iterator[str]:
    """Every struct that is handed out or travels, but for requests and replies."""
    for struct in sorted({*STRUCTURES, cursor.Reset}, key=lambda each: each.__name__):
        yield f"struct {struct.__name__}"
        yield from fields(struct)


def fields(struct: type[Struct]) -> Iterator[str]:
    """The fields with types as written and defaults, in the order of the code; a tag first."""
    config = struct.__struct_config__
    if config.tag_field:
        yield f"    {config.tag_field} = {config.tag!r}"
    written = attributes(struct)
    for each in msgspec.structs.fields(struct):
        alias = "" if each.encode_name == each.name else f" as {each.encode_name!r}"
        yield f"    {each.name}: {written[each.name]}{_default(each)}{alias}"


def _default(each: msgspec.structs.FieldInfo) -> str:
    if each.default is UNSET:
        return " = absent"
    if each.default is not msgspec.NODEFAULT:
        return f" = {each.default!r}"
    return "" if each.default_factory is msgspec.NODEFAULT else f" = {each.default_factory()!r}"


def _type_text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def catalogue() -> Iterator[str]:
    """Every code with its number, whether a retry can help, its exit code, and the class that carries it."""
    for code, (number, retryable, exit_code) in errors.CATALOGUE.items():
        kind = type(errors.error_from(code, "")).__name__
        yield f"code {code}: {number}, {'retryable' if retryable else 'final'}, exit {exit_code}, {kind}"


def methods() -> Iterator[str]:
    """Every method on the wire: its parameters, then the members of its reply."""
    for name, request in REQUESTS.items():
        yield f"method {name}"
        yield from fields(request)
        reply = reply_type(request)
        yield f"reply {name}: {reply.__name__}"
        yield from fields(reply)


def verbs() -> Iterator[str]:
    """Every verb of the command line: its words, its options. What all take stands first."""
    yield "every verb"
    yield from _options(options.COMMON)
    for name, target in main.VERBS.items():
        verb = main.load(target)
        low, high = verb.words
        yield f"verb {name}: {low} to {high} words{', -- COMMAND' if verb.takes_command else ''}"
        yield f"    usage {verb.usage}"
        yield from _options(verb.options)


def _options(found: typing.Iterable[options.Option]) -> Iterator[str]:
    for option in found:
        yield f"    {option.name} {option.value}".rstrip()


# -- both flavours ---------------------------------------------------------------------------------------------------

_BLOCKING: Final = (
    (r"\bcosession\.aio\b", "cosession.sync"),
    (r"^async def\b", "def"),
    (r"__a(enter|exit|iter)__", r"__\1__"),
    (r"__anext__", "__next__"),
)


def as_blocking(line: str) -> str:
    """A line of `cosession.aio` as `cosession.sync` must have it."""
    for pattern, replacement in _BLOCKING:
        line = re.sub(pattern, replacement, line)
    return line


def disagreements() -> list[str]:
    """Where the blocking client and the asyncio one differ in more than waiting."""
    awaited = [as_blocking(line) for line in names("cosession.aio", aio)]
    return difference("\n".join(awaited), "\n".join(names("cosession.sync", sync)))


def write() -> None:
    """Write the snapshot, and say what changed."""
    now = text()
    agreed = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.exists() else ""
    SNAPSHOT.write_text(now, encoding="utf-8")
    for line in difference(agreed, now):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    write()
