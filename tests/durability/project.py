"""What each request did to one key, as a step from state to state, for the search of linear.py.

A state is the revision that the entry shows, only ever compared for equality, and its value; either may be not known
yet, then the first answer that shows it settles it. A step gives the next state, or None where it does not fit.

Rule: what an answer does not say is not assumed: each step allows everything that a correct store could have done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec import msgpack

from cosession.messages import Request
from cosession.messages.store import (
    Add,
    AddReply,
    Append,
    AppendReply,
    CompareEntry,
    Delete,
    DeleteReply,
    Get,
    GetReply,
    Merge,
    MergeReply,
    Put,
    PutReply,
    Range,
    RangeReply,
    Txn,
    TxnAdd,
    TxnAppend,
    TxnDelete,
    TxnMerge,
    TxnPut,
    TxnReply,
)
from durability.journal import Deed
from durability.model import merged

#: Not known: as a revision of an entry that is there, or as its value.
UNKNOWN: Final = "?"


class State(NamedTuple):
    """`revision` 0: absent. `value` as canonical MessagePack. `sure` False: nothing is known, not even presence."""

    revision: int | str
    value: bytes | str
    sure: bool = True


ANY: Final = State(UNKNOWN, UNKNOWN, sure=False)
GONE: Final = State(0, UNKNOWN)
Effect = Callable[[State], State | None]


class Operation(NamedTuple):
    """One request at one key. `ended_s` None: nobody learned its end. It has one of its `effects`."""

    name: str
    began_s: float
    ended_s: float | None
    effects: tuple[Effect, ...]


def operations_by_key(deeds: Sequence[Deed], unknown: Sequence[Deed]) -> dict[str, list[Operation]]:
    """The history of each key; without leases, which end by themselves, and without reads of the past."""
    found: dict[str, list[Operation]] = {}
    pages: list[Deed] = []
    for deed in deeds:
        if deed.method == "range":
            pages.append(deed)
            continue
        for key, effects in _effects(deed):
            found.setdefault(key, []).append(Operation(deed.name, deed.began_s, deed.ended_s, effects))
    for deed in unknown:
        for key, effects in _perhaps(deed.request()):
            found.setdefault(key, []).append(Operation(deed.name, deed.began_s, None, effects))
    for deed in pages:
        request, reply = deed.request(), deed.reply()
        assert isinstance(request, Range)
        assert isinstance(reply, RangeReply)
        shown = {entry.key: (entry.mod_revision, _packed(entry.value)) for entry in reply.entries}
        for key in [key for key in found if key.startswith(request.prefix)]:
            revision, value = shown.get(key, (0, UNKNOWN))
            read = partial(shows, revision, value)
            found[key].append(Operation(deed.name, deed.began_s, deed.ended_s, (read,)))
    return {key: operations for key, operations in found.items() if not key.startswith("l/")}


# -- steps -----------------------------------------------------------------------------------------------------------


def shows(revision: int, value: bytes | str, state: State) -> State | None:
    """What is there is this."""
    if state.sure and (state.revision == 0) != (revision == 0):
        return None
    if state.sure and UNKNOWN not in (state.revision, revision) and state.revision != revision:
        return None
    if revision == 0:
        return GONE
    if UNKNOWN not in (state.value, value) and state.value != value:
        return None
    return State(revision, state.value if value == UNKNOWN else value)


def becomes(revision: int | str, value: bytes | str, _: State) -> State:
    """It is this afterwards, whatever it was."""
    return State(revision, value)


def goes(_: State) -> State:
    """It is gone afterwards."""
    return GONE


def stays(state: State) -> State:
    """Nothing was done."""
    return state


def ends(state: State) -> State | None:
    """It was there, and is gone."""
    return None if state.sure and state.revision == 0 else GONE


def changes(
    change: Callable[[Any], Any], told: Callable[[Any], bool], revision: int | str, state: State
) -> State | None:
    """What is there is changed by a function of its value; `told` is what the answer said of the outcome."""
    if state.value == UNKNOWN and not (state.sure and state.revision == 0):
        return State(revision, UNKNOWN)
    value = change(None if state.revision == 0 else msgpack.decode(state.value))  # type: ignore[arg-type]
    return State(revision, _packed(value)) if told(value) else None


def when(expected: int, then: Effect, state: State) -> State | None:
    """Only at this revision."""
    before = shows(expected, UNKNOWN, state)
    return then(before) if before is not None else None


# -- requests --------------------------------------------------------------------------------------------------------


def _effects(deed: Deed) -> Iterator[tuple[str, tuple[Effect, ...]]]:
    """What an answered request did to each of its keys."""
    request = deed.request()
    if deed.code:
        current = deed.data().get("current") if deed.code == "conflict" else None
        key = current["key"] if current else getattr(request, "key", "")
        if deed.code == "conflict" and key and not isinstance(request, Txn):
            revision, value = (current["mod_revision"], _packed(current["value"])) if current else (0, UNKNOWN)
            yield key, (partial(shows, revision, value),)
        return
    reply = deed.reply()
    if isinstance(request, Get) and isinstance(reply, GetReply):
        if not request.at_revision:
            entry = reply.entry
            revision, value = (entry.mod_revision, _packed(entry.value)) if entry else (0, UNKNOWN)
            yield request.key, (partial(shows, revision, value),)
    elif isinstance(request, Txn) and isinstance(reply, TxnReply):
        yield from _of_transaction(request, reply)
    elif isinstance(request, Delete) and isinstance(reply, DeleteReply):
        nothing = partial(shows, 0, UNKNOWN)
        yield request.key, (_guarded(request, ends if reply.written else nothing),)
    elif isinstance(reply, PutReply | MergeReply | AddReply | AppendReply):
        assert isinstance(request, Put | Merge | Add | Append)
        yield request.key, (_guarded(request, _of_write(request, reply.written.mod_revision, reply)),)


def _of_transaction(request: Txn, reply: TxnReply) -> Iterator[tuple[str, tuple[Effect, ...]]]:
    expected = {
        compare.key: compare.value
        for compare in request.compares
        if isinstance(compare, CompareEntry) and compare.field == "mod_revision" and reply.succeeded
    }
    writes = request.then if reply.succeeded else request.otherwise
    did = {written.key for written in reply.written}
    for write in writes:
        if isinstance(write, TxnDelete):
            effect: Effect = ends if write.key in did else partial(shows, 0, UNKNOWN)
        else:
            effect = _of_write(write, reply.txn_revision, None)
        if write.key in expected:
            effect = partial(when, expected.pop(write.key), effect)
        yield write.key, (effect,)
    for key, revision in expected.items():
        yield key, (partial(shows, revision, UNKNOWN),)


def _perhaps(request: Request[Any]) -> Iterator[tuple[str, tuple[Effect, ...]]]:
    """What a request may have done of which nobody knows: its effect, or nothing."""
    if isinstance(request, Txn):
        effects: dict[str, list[Effect]] = {}
        for write in (*request.then, *request.otherwise):
            effect = goes if isinstance(write, TxnDelete) else _of_write(write, UNKNOWN, None)
            effects.setdefault(write.key, []).append(effect)
        for key, each in effects.items():
            yield key, (*each, stays)
    elif isinstance(request, Delete):
        yield request.key, (_guarded(request, goes), stays)
    elif isinstance(request, Put | Merge | Add | Append):
        yield request.key, (_guarded(request, _of_write(request, UNKNOWN, None)), stays)


def _guarded(request: Put | Merge | Add | Append | Delete, effect: Effect) -> Effect:
    expected = request.expect_revision
    return partial(when, expected, effect) if isinstance(expected, int) else effect


def _of_write(
    write: Put | Merge | Add | Append | TxnPut | TxnMerge | TxnAdd | TxnAppend, revision: int | str, reply: Any
) -> Effect:
    """The step of a write, checked against what its answer tells of the outcome."""
    if isinstance(write, Put | TxnPut):
        return partial(becomes, revision, _packed(msgpack.decode(write.value)))
    if isinstance(write, Merge | TxnMerge):
        patch = msgpack.decode(write.patch)
        return partial(changes, lambda value: merged(value or {}, patch), _says(reply, "value"), revision)
    if isinstance(write, Add | TxnAdd):
        return partial(changes, lambda value: (value or 0) + write.number, _says(reply, "value"), revision)
    values = msgpack.decode(write.values)
    length = getattr(reply, "length", None)
    return partial(changes, lambda value: [*(value or []), *values], lambda new: length in (None, len(new)), revision)


def _says(reply: Any, field: str) -> Callable[[Any], bool]:
    """Whether the answer agrees with a new value; it says nothing where there is none, or of an old version."""
    told = getattr(reply, field, None)
    return lambda value: told is None or value == told


def _packed(value: Any) -> bytes:
    return msgpack.encode(value, order="deterministic")
