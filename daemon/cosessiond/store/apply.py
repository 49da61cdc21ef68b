"""What a batch means: the pure evaluation of batch format 1 against a view of the entries.

Rule: deterministic and without effects. `evaluate` reads through a `View` and returns what would change; the engine
that called it makes that durable. `store/memory.py` says the same in independent code, and tests compare the two.
"""

from __future__ import annotations

from itertools import chain
from math import isfinite
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Raw, msgpack

from cosession.messages.limits import BATCH_BYTES_MAX, VALUE_BYTES_MAX, VALUE_DEPTH_MAX
from cosessiond.store.engine import (
    Add,
    Append,
    Applied,
    Batch,
    Committed,
    Conflicted,
    Delete,
    Entry,
    EntryCompare,
    EntryId,
    Merge,
    Put,
    RangeCompare,
    Refused,
    Write,
)
from cosessiond.store.hash import row_hash

_decode = msgpack.Decoder().decode
_encode = msgpack.Encoder().encode
_decode_names = msgpack.Decoder(dict[str, Raw]).decode
_NIL: Final = b"\xc0"
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1
# How lists begin (https://github.com/msgpack/msgpack/blob/master/spec.md#array-format-family).
_FIXARRAY: Final = 0x90
_ARRAY_16: Final = 0xDC
_ARRAY_32: Final = 0xDD
_FIXARRAY_MAX: Final = 15
_ARRAY_16_MAX: Final = 0xFFFF
_EMPTY_MAP: Final = b"\x80"
_FIXMAP: Final = 0x80
_MAPS: Final = frozenset({0xDE, 0xDF})
_CONTAINERS: Final = frozenset({list, dict})
_ABSENT: Final = 0


class View(Protocol):
    """The entries as all earlier batches left them."""

    def get(self, id: EntryId) -> Entry | None:
        """The live entry, None when absent."""
        ...

    def first_newer(self, compare: RangeCompare) -> Entry | None:
        """The first entry in key order under the compare's prefix with a mod_revision above its bound."""
        ...


class Evaluated(NamedTuple):
    """A batch that changes something: its outcome and the entries as it leaves them (None: gone)."""

    outcome: Committed
    entries: list[tuple[EntryId, Entry | None]]


class _Unfit(NamedTuple):
    """Why a write cannot be done, and the code of that."""

    code: str
    why: str


def evaluate(batch: Batch, view: View, revision: int) -> Evaluated | Committed | Conflicted | Refused:
    """Evaluate `batch` after `revision`. A bare Committed is one that changed nothing and takes no revision."""
    failed = _first_failing(batch, view)
    if failed is not None and not batch.otherwise:
        return Conflicted(revision, *failed)
    succeeded = failed is None
    writes = batch.then if succeeded else batch.otherwise
    assert len({write.id for write in writes}) == len(writes), "admission lets no id be written twice"
    own = revision + 1
    changes: list[Applied] = []
    entries: list[tuple[EntryId, Entry | None]] = []
    for write in writes:
        found = _write(write, view.get(write.id), batch, own)
        if found is None:
            continue
        if isinstance(found, _Unfit):
            return Refused(revision, found.code, found.why)
        changes.append(found[0])
        entries.append((write.id, found[1]))
    size = sum(len(change.value) for change in changes)
    if size > BATCH_BYTES_MAX:
        return Refused(
            revision,
            "too_large",
            f"cannot write: the values would have {size} bytes together, the limit is {BATCH_BYTES_MAX}; "
            "use several transactions",
        )
    if not changes:
        return Committed(revision, succeeded, batch.time_ms, batch.origin, ())
    return Evaluated(Committed(own, succeeded, batch.time_ms, batch.origin, tuple(changes)), entries)


def _first_failing(batch: Batch, view: View) -> tuple[int, Entry | None] | None:
    for index, compare in enumerate(batch.compares):
        if isinstance(compare, EntryCompare):
            entry = view.get(compare.id)
            if _field(entry, compare.field) != compare.value:
                return index, entry
        else:
            newer = view.first_newer(compare)
            if newer is not None:
                return index, newer
    return None


def _field(entry: Entry | None, name: str) -> int:
    if entry is None:
        return _ABSENT
    number: int = getattr(entry, name)
    return number


def _write(
    write: Write, before: Entry | None, batch: Batch, revision: int
) -> tuple[Applied, Entry | None] | _Unfit | None:
    """One write: the change and the entry it leaves; None when it does nothing."""
    replaced = (before.mod_revision, before.session) if before else (0, "")
    if isinstance(write, Delete):
        if before is None:
            return None
        return Applied(write.id, write.kind, b"", 0, before.create_revision, 0, "", *replaced), None
    value = _value(write, before)
    if isinstance(value, _Unfit):
        return value
    if isinstance(write, Put):
        ttl_ms, owner = write.ttl_ms, write.owner
    else:
        ttl_ms, owner = (before.ttl_ms, before.owner) if before else (0, "")
    version = before.version + 1 if before else 1
    create_revision = before.create_revision if before else revision
    session = batch.origin.session
    row = row_hash(
        write.id,
        value,
        version=version,
        create_revision=create_revision,
        mod_revision=revision,
        time_ms=batch.time_ms,
        session=session,
        ttl_ms=ttl_ms,
        owner=owner,
    )
    entry = Entry(write.id, value, version, create_revision, revision, batch.time_ms, session, ttl_ms, owner, row)
    return Applied(write.id, "put", value, version, create_revision, ttl_ms, owner, *replaced), entry


def _value(write: Put | Merge | Add | Append, before: Entry | None) -> bytes | _Unfit:
    """The value that a write leaves behind."""
    key = write.id[2]
    if isinstance(write, Put):
        if len(write.value) <= VALUE_BYTES_MAX:
            return write.value
        return _Unfit("too_large", f"cannot put {key!r}: over {VALUE_BYTES_MAX} bytes; split it over several keys")
    if isinstance(write, Add):
        return _added(write, before)
    if isinstance(write, Append):
        if before and not _is_list(before.value):
            return _Unfit("wrong_type", f"cannot append to {key!r}: its value is no list; put one, or use another key")
        value = joined(before.value, write.values) if before else write.values
        too_deep = _is_too_deep(write.values)  # its elements keep their level
    else:
        value = merge_patch(before.value if before else _EMPTY_MAP, write.patch)
        # What is merged keeps its level, so only a patch can make the result deeper than the entry is.
        too_deep = _is_too_deep(write.patch) and _is_too_deep(value)
    if len(value) > VALUE_BYTES_MAX or too_deep:
        what = "append to" if isinstance(write, Append) else "merge into"
        why = f"cannot {what} {key!r}: the result is over {VALUE_BYTES_MAX} bytes or too deep; split it"
        return _Unfit("too_large", why)
    return value


def left_bytes(write: Put | Merge | Add | Append, before: Entry | None) -> int:
    """How long the value is that a write leaves behind; when it cannot be done, of the one that is there."""
    value = _value(write, before)
    if isinstance(value, _Unfit):
        return len(before.value) if before else 0
    return len(value)


def _added(write: Add, before: Entry | None) -> bytes | _Unfit:
    key = write.id[2]
    stood = _decode(before.value) if before and not _is_container(before.value) else 0 if before is None else None
    if type(stood) not in (int, float):
        return _Unfit("wrong_type", f"cannot add to {key!r}: its value is no number; put one, or use another key")
    result = stood + _decode(write.number)
    if type(result) is int and not _INT_MIN <= result <= _INT_MAX:
        return _Unfit("too_large", f"cannot add to {key!r}: the sum has no place in 64 bits; add a float to go on")
    if not isfinite(result):
        return _Unfit("too_large", f"cannot add to {key!r}: the sum is infinite; put another number")
    return _encode(result)


def joined(one: bytes, other: bytes) -> bytes:
    """Two canonical lists as one. Only their headers are looked at, so a large list costs a copy and no more."""
    (count, start), (more, begin) = _list_header(one), _list_header(other)
    total = count + more
    if total <= _FIXARRAY_MAX:
        header = bytes((_FIXARRAY | total,))
    elif total <= _ARRAY_16_MAX:
        header = bytes((_ARRAY_16,)) + total.to_bytes(2)
    else:
        header = bytes((_ARRAY_32,)) + total.to_bytes(4)
    return b"".join((header, memoryview(one)[start:], memoryview(other)[begin:]))


def list_length(value: bytes) -> int:
    """How many elements an encoded list has."""
    return _list_header(value)[0]


def _list_header(value: bytes) -> tuple[int, int]:
    """The number of elements, and where they begin."""
    kind = value[0]
    if kind == _ARRAY_16:
        return int.from_bytes(value[1:3]), 3
    if kind == _ARRAY_32:
        return int.from_bytes(value[1:5]), 5
    assert kind & 0xF0 == _FIXARRAY, "a list"
    return kind & 0x0F, 1


def _is_list(value: bytes) -> bool:
    kind = value[0]
    return kind & 0xF0 == _FIXARRAY or kind in (_ARRAY_16, _ARRAY_32)


def _is_container(value: bytes) -> bool:
    return _is_list(value) or _is_map(value)


def merge_patch(target: bytes, patch: bytes) -> bytes:
    """RFC 7396 section 2, on canonical bytes. Names of the target keep their place, new ones follow.

    Only the maps that the patch has in common with the target are taken apart; all else is carried as the bytes it is,
    so that a small patch of a large entry costs little.
    """
    if not _is_map(patch):
        return patch
    result = _decode_names(target) if _is_map(target) else {}
    for name, value in _decode_names(patch).items():
        given = bytes(value)
        if given == _NIL:
            result.pop(name, None)
        elif _is_map(given):
            result[name] = Raw(merge_patch(bytes(result.get(name, _NIL)), given))
        else:
            result[name] = value
    return _encode(result)


def _is_map(value: bytes) -> bool:
    kind = value[0]
    return kind & 0xF0 == _FIXMAP or kind in _MAPS


def _is_too_deep(value: bytes) -> bool:
    """Whether more than VALUE_DEPTH_MAX lists and maps stand around a part of `value`; as `values.admit` counts."""
    level: list[Any] = [_decode(value)]
    for _ in range(VALUE_DEPTH_MAX + 1):
        inner = [part.values() if type(part) is dict else part for part in level if type(part) in _CONTAINERS]
        level = list(chain.from_iterable(inner))
        if not level:
            return False
    return True
