"""What docstrings of the public API must say, as checks from the code to the list of what they do not say.

A method and its parameters, the errors its requests can be refused with, what is in a struct, units, sources. What all
methods of a class share is said in the docstring of the class.

Rule: what can be held mechanically is held here for all; a check takes the docstrings of what it is handed, so that a
test can hand it wrong ones.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

import cosession
from cosession import aio, errors, model, wire
from cosession.exchange import calls, cursor
from cosession.messages import REQUESTS, limits
from cosession.messages.base import Request
from documents import sections
from examples import public

#: The methods of a client, and the requests that each may send.
SENDS: Final[dict[str, tuple[str, ...]]] = {
    "get": ("get",),
    "put": ("put", "get", "history"),
    "update": ("get", "put", "turn"),
    "delete": ("delete",),
    "merge": ("merge",),
    "add": ("add",),
    "append": ("append",),
    "txn": ("txn",),
    "range": ("range",),
    "history": ("history",),
    "diff": ("get", "history"),
    "blame": ("history",),
    "audit": ("audit",),
    "follow_audit": ("audit",),
    "compact": ("compact",),
    "revert": ("revert",),
    "purge": ("purge",),
    "revision_at": ("revision_at",),
    "watch": ("watch",),
    "session": ("session.register",),
    "sessions": ("session.list",),
    "backup": ("backup.now",),
    "backups": ("backup.list",),
    "verify_backup": ("backup.verify",),
    "explain": ("session.explain",),
    "why_not": ("session.why_not",),
    "simulate_crash": ("session.simulate_crash",),
    "recover": ("session.recover",),
    "checkpoint_of": ("checkpoint.get",),
    "status": ("status",),
    "ping": ("ping",),
}
#: Those that send none of their own.
SENDS_NOTHING: Final = ("call", "close", "staleness")
#: What implements something that is specified elsewhere, and the name of that specification.
SOURCES: Final[tuple[tuple[Any, str], ...]] = (
    (cosession.Client.merge, "RFC 7396"),
    (cosession.Client.put, "RFC 6901"),
    (cosession.Client.blame, "RFC 6901"),
    (cosession.Client.diff, "RFC 6902"),
    (cosession.Difference, "RFC 6902"),
    (cosession.Attribution, "RFC 6901"),
    (cosession.Conflict, "RFC 6901"),
    (cosession.CosessionError.number, "JSON-RPC 2.0"),
    (cosession.CosessionError.exit_code, "sysexits.h"),
    (calls.RequestIds, "https://github.com/ulid/spec"),
    (wire.JsonCodec, "https://www.jsonrpc.org/specification"),
    (wire.MsgpackCodec, "https://github.com/msgpack/msgpack"),
)
#: Limits that a docstring tells, as they are written there.
NUMBERS: Final[tuple[tuple[Any, str], ...]] = (
    (cosession.Client, f"{limits.LIMITS.key_bytes_max} bytes"),
    (cosession.Client, f"{limits.LIMITS.value_bytes_max:,} bytes"),
    (cosession.Client.txn, f"{limits.BATCH_WRITES_MAX} writes"),
    (cosession.Client.history, f"({limits.VERSIONS_KEPT} are kept)"),
    (cosession.Client.txn, f"{limits.BATCH_BYTES_MAX // 1024} KiB"),
    (cosession.Client.session, f"{limits.SESSIONS_LIVE_MAX:,} live sessions"),
    (cosession.Client.session, f"{limits.SESSION_INSTANCES_MAX} processes"),
)
#: Numbers that measure nothing.
_PURE: Final = frozenset({"number"})
_UNITS: Final = ("_s", "_ms")

Thing = tuple[str, Any]


def doc(thing: Any) -> str:
    """Its docstring, "" without; not one that was inherited or made up."""
    text = thing.__doc__ or ""
    return "" if isinstance(thing, type) and text.startswith(f"{thing.__name__}(") else inspect.cleandoc(text)


def docs(thing: Any, owner: type | None) -> str:
    """What is said of it: its own docstring and those of its class and the bases of that."""
    kinds = [kind for kind in (owner.__mro__ if owner else ()) if kind.__module__.startswith("cosession")]
    return "\n".join([doc(thing), *map(doc, kinds)])


def routines() -> Iterator[tuple[str, Any, type | None]]:
    """Every public function and method of both clients, with its class."""
    for module_name, module in (("cosession", cosession), ("cosession.aio", aio)):
        for name, thing in public(module_name, module):
            owner = getattr(module, name.removeprefix(f"{module_name}.").partition(".")[0], None)
            if inspect.isroutine(thing) and not name.endswith("__"):
                yield name, thing, owner if inspect.isclass(owner) else None


def handed_out() -> set[type[Struct]]:
    """Every struct that a caller can get from the public API, with those in their fields."""
    found: set[type[Struct]] = {each for name in cosession.__all__ if _is_struct(each := getattr(cosession, name))}
    found.add(cursor.Reset)
    waiting: list[Any] = [
        typing.get_type_hints(thing, localns=_names()).get("return") for _, thing, _ in routines() if _is_ours(thing)
    ]
    waiting += [field.type for struct in found for field in msgspec.structs.fields(struct)]
    while waiting:
        each = waiting.pop()
        waiting += typing.get_args(each)
        if _is_struct(each) and each not in found:
            found.add(each)
            waiting += [field.type for field in msgspec.structs.fields(each)]
    return found


def _names() -> dict[str, Any]:
    return {"Record": model.Session}


def _is_struct(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, Struct)


def _is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("cosession")


# -- the checks ------------------------------------------------------------------------------------------------------


def undocumented(things: Iterable[Thing]) -> list[str]:
    """Everything has a docstring of its own."""
    return [
        f"{name} has no docstring"
        for name, thing in things
        if not isinstance(thing, types.ModuleType | str) and not doc(thing)
    ]


def unnamed_parameters(found: Iterable[tuple[str, Any, type | None]]) -> list[str]:
    """Every parameter is named in the docstring of its function or class."""
    wrong = []
    for name, thing, owner in found:
        said = docs(thing, owner)
        names = [parameter for parameter in inspect.signature(thing).parameters if parameter != "self"]
        silent = [parameter for parameter in names if not re.search(rf"`{parameter}\b", said)]
        wrong += [f"{name}: the parameter {parameter} is not explained" for parameter in silent]
    return wrong


def unnamed_errors(found: Iterable[tuple[str, Any, type | None]], protocol: str) -> list[str]:
    """Every error that the protocol names for a request of a method is named by its docstring or that of its class."""
    refusals = {name: refusals_of(name, protocol) for name in REQUESTS}
    wrong = []
    for name, thing, owner in found:
        method = name.rpartition(".")[2]
        if owner is None or owner.__name__ != "Client" or method in SENDS_NOTHING:
            continue
        if method not in SENDS:
            wrong.append(f"{name}: nobody knows what it sends; do: say so in docstrings.SENDS")
            continue
        said = docs(thing, owner)
        codes = sorted(set().union(*(refusals.get(request, set()) for request in SENDS[method])))
        wrong += [f"{name}: the error {code} is not named" for code in codes if not is_named(code, said)]
    return wrong


def refusals_of(method: str, protocol: str) -> set[str]:
    """The codes that PROTOCOL.md names for a method."""
    listed = re.search(r"^Errors: (.*(?:\n\S.*)*)", sections(protocol).get(method, ""), flags=re.MULTILINE)
    if listed is None:
        return set()
    text = re.sub(r"\([^)]*\)", "", listed[1])
    named = set(re.findall(r"`([a-z_.]+)`", text))
    found = named & set(errors.CATALOGUE)
    for other in re.findall(r"as for `([a-z_.]+)`", text):
        found |= refusals_of(other, protocol)
    return found


def is_named(code: str, text: str) -> bool:
    """Whether a text names an error: by its class where it has one, by its code where it has none."""
    kind = type(errors.error_from(code, "")).__name__
    return f"`{code}`" in text if kind == "CosessionError" else re.search(rf"\b{kind}\b", text) is not None


def unnamed_fields(structs: Iterable[type[Struct]]) -> list[str]:
    """Every field is named in the docstring of its struct, of a base, or of another struct that this one refers to."""
    wrong = []
    for struct in structs:
        said = said_of(struct)
        names = [field.name for field in msgspec.structs.fields(struct)]
        wrong += [f"{struct.__name__}.{name} is not explained" for name in names if not re.search(rf"`{name}\b", said)]
    return wrong


def said_of(struct: type[Struct]) -> str:
    """Its docstring, those of its bases, and of other structs that it refers to."""
    known = {each.__name__: each for each in handed_out()}
    named = [known[name] for name in re.findall(r"`([A-Z]\w+)`", doc(struct)) if name in known]
    return "\n".join([docs(struct, struct), *map(doc, named)])


def unmeasured(structs: Iterable[type[Struct]]) -> list[str]:
    """A number that measures something ends in its unit; where its name does not, the docstring says seconds."""
    wrong = []
    for struct in structs:
        for field in msgspec.structs.fields(struct):
            is_silent = field.name not in _PURE and not field.name.endswith(_UNITS)
            if _measures(field.type) and is_silent and "seconds" not in said_of(struct):
                wrong.append(f"{struct.__name__}.{field.name} has no unit")
    for name, thing, _ in routines():
        for parameter in inspect.signature(thing).parameters.values():
            is_silent = parameter.name not in _PURE and not parameter.name.endswith(_UNITS)
            if re.search(r"\bfloat\b", str(parameter.annotation)) and is_silent and "seconds" not in doc(thing):
                wrong.append(f"{name}: {parameter.name} has no unit")
    return wrong


def _measures(annotation: Any) -> bool:
    """Whether it is a float, or a float or nothing."""
    parts = set(typing.get_args(annotation)) or {annotation}
    return float in parts and int not in parts


def unsourced(found: Iterable[tuple[Any, str]]) -> list[str]:
    """What implements a specification says which; what tells a limit tells the one there is."""
    return [f"{thing!r}: {source} is not named" for thing, source in found if source not in doc(thing)]


def everything() -> Iterator[Thing]:
    """What must have a docstring: both clients, the errors, what is handed out, the requests."""
    yield from public("cosession", cosession)
    yield from public("cosession.aio", aio)
    yield from ((struct.__name__, struct) for struct in handed_out())
    yield from ((request.__name__, request) for request in REQUESTS.values())
    yield from ((f"Request.{name}", thing) for name, thing in vars(Request).items() if inspect.isfunction(thing))
