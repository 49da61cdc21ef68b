"""The three hashes: of a live row, of the batch chain, and of the state as the sum of its rows.

Rule: what goes into a hash is fixed by format 1 and never changes; engines call these and add nothing.
BLAKE2b (RFC 7693) over MessagePack, whose encoding of these tuples is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from msgspec import msgpack

from cosessiond.store.engine import Applied, EntryId, Origin

_encode = msgpack.Encoder().encode
_STATE_MODULUS: Final = 1 << 128
ROW_HASH_BYTES: Final = 16
_TRACE: Final = b"\xc1"  # "never used": https://github.com/msgpack/msgpack/blob/master/spec.md#overview
ZERO_STATE: Final = bytes(16)
ZERO_CHAIN: Final = bytes(32)


def row_hash(
    id: EntryId,
    value: bytes,
    *,
    version: int,
    create_revision: int,
    mod_revision: int,
    time_ms: int,
    session: str,
    ttl_ms: int,
    owner: str,
) -> bytes:
    """16 bytes over every field of a live entry."""
    head = _encode((id, version, create_revision, mod_revision, time_ms, session, ttl_ms, owner))
    return blake2b(head + value, digest_size=ROW_HASH_BYTES).digest()


def record_hash(*fields: object) -> bytes:
    """16 bytes over the other fields of a row that is neither entry nor version, in the order of its columns."""
    return blake2b(_encode(fields), digest_size=16).digest()


def value_hash(value: bytes) -> bytes:
    """16 bytes over the canonical value; of the trace of a purged one those that it keeps."""
    return value[1:] if is_trace(value) else blake2b(value, digest_size=16).digest()


def trace_of(value: bytes) -> bytes:
    """What a purge leaves in the place of a value: its hash behind a byte that MessagePack never begins with."""
    return value if is_trace(value) else _TRACE + value_hash(value)


def is_trace(value: bytes) -> bool:
    """Whether this is what a purge left of a value."""
    return value.startswith(_TRACE)


def chain_hash(previous: bytes, revision: int, time_ms: int, origin: Origin, changes: Sequence[Applied]) -> bytes:
    """32 bytes: H(previous, format, revision, time, origin, changes with value hashes instead of values)."""
    body = [
        (c.id, c.kind, c.version, c.create_revision, c.ttl_ms, c.owner, value_hash(c.value) if c.kind == "put" else b"")
        for c in changes
    ]
    return blake2b(_encode((previous, 1, revision, time_ms, origin, body)), digest_size=32).digest()


def state_add(state: bytes, row: bytes) -> bytes:
    """The state hash after a row with this hash appeared (sum modulo 2**128, big-endian)."""
    return ((int.from_bytes(state) + int.from_bytes(row)) % _STATE_MODULUS).to_bytes(16)


def state_remove(state: bytes, row: bytes) -> bytes:
    """The state hash after a row with this hash disappeared."""
    return ((int.from_bytes(state) - int.from_bytes(row)) % _STATE_MODULUS).to_bytes(16)


def version_hash(head: Sequence[object], value: bytes) -> bytes:
    """16 bytes over a kept version: `head` is every other field in the order of its table's columns."""
    return blake2b(_encode(head) + value, digest_size=16).digest()
