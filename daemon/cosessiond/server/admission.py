"""What a store request must be before it is queued: names, sizes, spaces, leases, and who it acts for.

Rule: everything that could be wrong with a write is found here, on the loop, before it takes a place in the queue;
behind this point only compares can fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import ceil
from typing import Final

from msgspec import msgpack, structs

from cosession import values
from cosession.errors import CosessionError, InvalidRequest, NotAllowed, Overloaded, TooLarge
from cosession.messages import checkpoints, mail, past
from cosession.messages import store as messages
from cosession.messages.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMPARES_MAX,
    BATCH_WRITES_MAX,
    CALL_NODES_MAX,
    PROJECT_BYTES_MAX,
    RANGE_COMPARES_MAX,
    REQUEST_ID_BYTES_MAX,
    REVISION_MAX,
    SESSION_EPHEMERALS_MAX,
    TTL_S_MAX,
)
from cosession.model import SPACES
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.sessions.records import record_id
from cosessiond.store.engine import (
    Add,
    Append,
    Compare,
    Delete,
    EntryCompare,
    EntryId,
    Merge,
    Origin,
    Put,
    RangeCompare,
    Write,
)
from cosessiond.store.quota import ADDED_BYTES

WriteRequest = (
    messages.Put
    | messages.Delete
    | messages.Merge
    | messages.Add
    | messages.Append
    | messages.Txn
    | past.Revert
    | past.Purge
)

#: What is done once under its request id, whatever it writes.
OnceRequest = WriteRequest | mail.Send | checkpoints.Save

#: Sessions that an error names when a caller may act for several.
SESSIONS_NAMED_MAX: Final = 8
_encode = msgpack.Encoder().encode
#: What a patch that keeps something of its entry begins with: a map, in MessagePack.
_MAP_BYTES: Final = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
#: What a list begins with.
_LIST_BYTES: Final = frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
_EMPTY_LIST: Final = b"\x90"
_CONTROL: Final = frozenset(map(chr, (*range(32), 127)))


def readable(core: Core, space: str, project: str, key: str) -> EntryId:
    """The id of an entry that may be read. Raises InvalidRequest or TooLarge."""
    if space not in SPACES:
        raise InvalidRequest(f"cannot use space {space[:40]!r}: there are {', '.join(SPACES)}")
    check_project(project)
    size = len(key.encode())
    if size == 0:
        raise InvalidRequest("cannot use an empty key; name it")
    if size > core.limits.key_bytes_max:
        limit = core.limits.key_bytes_max
        raise TooLarge(
            f"cannot use a key of {size} bytes: the limit is {limit}; shorten it", data={"size": size, "limit": limit}
        )
    if not _CONTROL.isdisjoint(key):
        raise InvalidRequest("cannot use a key with control characters; choose printable ones")
    return space, project, key


def revision(number: int, name: str) -> int:
    """A revision as a peer may name it: 0 to 2**63 - 1. Raises InvalidRequest."""
    if not 0 <= number <= REVISION_MAX:
        raise InvalidRequest(f"cannot use {name} {str(number)[:24]}: revisions are 0 to {REVISION_MAX}")
    return number


def past_revision(core: Core, number: int, name: str) -> int:
    """A revision to read at. Raises future_revision; what is below the window is found out by the engine."""
    revision(number, name)
    if number > core.store.revision:
        raise CosessionError(
            f"cannot read at revision {number}: the store is at {core.store.revision}; ask for that or less",
            code="future_revision",
            data={"revision": core.store.revision},
        )
    return number


def check_project(project: str) -> None:
    """Raises InvalidRequest or TooLarge."""
    size = len(project.encode())
    if not 0 < size <= PROJECT_BYTES_MAX:
        raise TooLarge(
            f"cannot use a project of {size} bytes: 1 to {PROJECT_BYTES_MAX}; use the git common directory or 'global'",
            data={"size": size, "limit": PROJECT_BYTES_MAX},
        )
    if not _CONTROL.isdisjoint(project):
        raise InvalidRequest("cannot use a project with control characters")


def writable(core: Core, space: str, project: str, key: str) -> EntryId:
    """The id of an entry that users may write."""
    if space != "context":
        raise NotAllowed(f"cannot write to {space[:40]!r}: it is written by its own operations; use space 'context'")
    return readable(core, space, project, key)


def origin(core: Core, call: Call, request: OnceRequest) -> Origin:
    """The origin of a write: the session the caller acts for, and the identity of the request."""
    acting = acting_session(core, call, request.session)
    instance = f"{call.peer.pid}@{call.peer.start_time}" if call.peer is not None else ""
    return structs.replace(anonymous_origin(core, request), session=acting, instance=instance)


def anonymous_origin(core: Core, request: OnceRequest) -> Origin:
    """The identity of a request without its caller. Raises InvalidRequest for an unusable request id."""
    request_id = request.request_id
    if len(request_id.encode()) > REQUEST_ID_BYTES_MAX or not _CONTROL.isdisjoint(request_id):
        raise InvalidRequest(f"cannot use that request_id: at most {REQUEST_ID_BYTES_MAX} printable bytes")
    digest = blake2b(request.method.encode() + _encode(request), digest_size=16).digest() if request_id else b""
    return core.store.origin(request.method, request_id=request_id, request_hash=digest)


def acting_session(core: Core, call: Call, named: str) -> str:
    """The session a caller acts for, "" for nobody: the one it names, the only one its connection registered, the one
    its `hello` named, or the only one that its process or an ancestor belongs to.

    Raises NotAllowed for one that is not the caller's, not_found and session_ended.
    """
    if not named and len(call.sessions) != 1:
        named = call.chosen
    if named:
        if named not in call.sessions:
            core.registry.require_may_act(call.ancestry(), named, call.session_token(named))
        if not call.is_late:
            core.registry.require_live(named)
        core.activity(named)
        return named
    own = call.sessions or core.registry.sessions_of(call.ancestry)
    if len(own) != 1:
        return ""  # nobody, or no telling which: a write is then anonymous
    (session,) = own
    core.activity(session)
    return session


def require_somebody(core: Core, call: Call, acting: str) -> None:
    """Raises NotAllowed when an ephemeral entry would be nobody's, and says whose it may be."""
    if acting:
        return
    own = sorted(call.sessions or core.registry.sessions_of(call.ancestry))
    if own:
        some = own[:SESSIONS_NAMED_MAX]
        named = ", ".join(some) + (" and others" if own != some else "")
        raise NotAllowed(
            f"cannot put an ephemeral entry: you may act for {len(own)} sessions ({named}); choose one, in Python "
            "with session=, on the command line with --session or COSESSION_SESSION",
            data={"sessions": some},
        )
    raise NotAllowed("cannot put an ephemeral entry for nobody; register a session first, or name one of yours")


class Allowance:
    """What the values of one call may still hold: small parts by the hundred thousand would stop the loop (P16)."""

    def __init__(self, core: Core, *, bytes_max: int = 0) -> None:
        self._bytes_max = bytes_max or core.limits.value_bytes_max
        self._nodes = CALL_NODES_MAX

    def admit(self, raw: bytes, what: str = "value") -> bytes:
        """The canonical bytes of one value. Raises TooLarge and InvalidRequest."""
        value, nodes = values.admit_counted(raw, what=what, bytes_max=self._bytes_max)
        self._nodes -= nodes
        if self._nodes < 0:
            raise TooLarge(
                f"cannot take more than {CALL_NODES_MAX} elements and members at once; use several calls",
                data={"limit": CALL_NODES_MAX},
            )
        return value


def add(id: EntryId, number: float, allowance: Allowance) -> Add:
    """An addition. Raises InvalidRequest for what is no number of the domain."""
    return Add(id, allowance.admit(_encode(number), "number"))


def append(id: EntryId, values: bytes, allowance: Allowance) -> Append:
    """An append of one element or more. Raises InvalidRequest and TooLarge."""
    admitted = allowance.admit(values, "values")
    if admitted[0] not in _LIST_BYTES or admitted == _EMPTY_LIST:
        raise InvalidRequest("cannot append that: `values` is the list of what to append, one element or more")
    return Append(id, admitted)


def put(id: EntryId, value: bytes, *, ttl_s: float, ephemeral: bool, session: str) -> Put:
    """One put of an admitted value with its lease; an ephemeral one needs `ephemeral_guards` besides."""
    if not 0 <= ttl_s <= TTL_S_MAX:
        raise InvalidRequest(f"cannot use ttl_s {ttl_s}: 0 (none) to {TTL_S_MAX} seconds")
    if not ephemeral:
        return Put(id, value, ceil(ttl_s * 1000))  # rounded up: a lease never ends early
    if ttl_s:
        raise InvalidRequest("cannot use both ttl_s and ephemeral; choose one")
    assert session, "see require_somebody"
    return Put(id, value, 0, session)


def ephemeral_guards(core: Core, writes: Sequence[Write]) -> list[Compare]:
    """The compare by which ephemeral entries are written only while their session lives; none without such entries.

    All that a session owns ends with it in one batch, so what is on its way and what `writes` has count as well.
    Raises Overloaded and session_ended.
    """
    added = {write.id: write.owner for write in writes if isinstance(write, Put) and write.owner}
    if not added:
        return []
    (session,) = set(added.values())
    owned = {*core.store.owned(session), *core.store.may_own(session)}
    if not added.keys() <= owned and len(owned | added.keys()) > SESSION_EPHEMERALS_MAX:
        core.metrics.hit("session_ephemerals")
        raise Overloaded(
            f"cannot put: session {session} may own {SESSION_EPHEMERALS_MAX} ephemeral entries and has {len(owned)}; "
            "delete some or use ttl_s"
        )
    core.registry.require_live(session)
    record = core.store.get(record_id(session))
    assert record is not None, "a live session has a record"
    return [EntryCompare(record_id(session), "mod_revision", record.mod_revision)]


def fence_guards(core: Core, fence: int, session: str) -> list[Compare]:
    """The compare by which a write holds only while the claim with this fencing token does; none for 0. Raises Fenced
    and NotAllowed.
    """
    return [core.referee.fence(fence, session)] if fence else []


def txn_writes(
    core: Core, request: messages.Txn, writes: list[messages.TxnWrite], session: str, allowance: Allowance
) -> tuple[list[Write], list[Compare]]:
    """One branch of a transaction. Raises InvalidRequest when a key is written twice or there are too many."""
    if len(writes) > BATCH_WRITES_MAX:
        raise TooLarge(
            f"cannot write {len(writes)} entries at once: the limit is {BATCH_WRITES_MAX}; use several transactions",
            data={"size": len(writes), "limit": BATCH_WRITES_MAX},
        )
    found: list[Write] = []
    for write in writes:
        id = writable(core, request.space, request.project, write.key)
        if isinstance(write, messages.TxnPut):
            value = allowance.admit(bytes(write.value))
            found.append(put(id, value, ttl_s=write.ttl_s, ephemeral=write.ephemeral, session=session))
        elif isinstance(write, messages.TxnMerge):
            found.append(Merge(id, allowance.admit(bytes(write.patch), "patch")))
        elif isinstance(write, messages.TxnAdd):
            found.append(add(id, write.number, allowance))
        elif isinstance(write, messages.TxnAppend):
            found.append(append(id, bytes(write.values), allowance))
        else:
            found.append(Delete(id))
    ids = [write.id for write in found]
    if len(set(ids)) != len(ids):
        raise InvalidRequest("cannot write a key twice in one transaction; combine the writes")
    if sum(_weight(core, write) for write in found) > BATCH_BYTES_MAX:
        raise TooLarge(
            f"cannot write more than {BATCH_BYTES_MAX} bytes at once; use several transactions",
            data={"limit": BATCH_BYTES_MAX},
        )
    return found, ephemeral_guards(core, found)


def _weight(core: Core, write: Write) -> int:
    """The bytes a write may leave; of a merge or append, with the entry it goes into: 128 small ones may rewrite 32
    MiB.
    """
    if isinstance(write, Put):
        return len(write.value)
    if isinstance(write, Merge):
        before = core.store.get(write.id)
        return len(write.patch) + (len(before.value) if before and write.patch[0] in _MAP_BYTES else 0)
    if isinstance(write, Append):
        before = core.store.get(write.id)
        return len(write.values) + (len(before.value) if before else 0)
    return ADDED_BYTES if isinstance(write, Add) else 0


def txn_compares(core: Core, request: messages.Txn) -> list[Compare]:
    """The compares of a transaction, in order."""
    if len(request.compares) > BATCH_COMPARES_MAX:
        raise TooLarge(
            f"cannot compare {len(request.compares)} things at once: the limit is {BATCH_COMPARES_MAX}",
            data={"size": len(request.compares), "limit": BATCH_COMPARES_MAX},
        )
    ranges = sum(isinstance(compare, messages.CompareRange) for compare in request.compares)
    if ranges > RANGE_COMPARES_MAX:
        raise TooLarge(
            f"cannot compare {ranges} ranges at once: the limit is {RANGE_COMPARES_MAX}; compare entries instead",
            data={"size": ranges, "limit": RANGE_COMPARES_MAX},
        )
    found: list[Compare] = []
    for compare in request.compares:
        if isinstance(compare, messages.CompareEntry):
            id = readable(core, request.space, request.project, compare.key)
            found.append(EntryCompare(id, compare.field, compare.value))
        else:
            check_place(core, request.space, request.project, compare.prefix)
            found.append(RangeCompare(request.space, request.project, compare.prefix, compare.max_mod_revision))
    return found


def check_place(core: Core, space: str, project: str, prefix: str) -> None:
    """Where a range or a watch looks. Raises InvalidRequest or TooLarge."""
    if space not in SPACES:
        raise InvalidRequest(f"cannot use space {space[:40]!r}: there are {', '.join(SPACES)}")
    check_project(project)
    size = len(prefix.encode())
    if size > core.limits.key_bytes_max:
        limit = core.limits.key_bytes_max
        raise TooLarge(
            f"cannot use a prefix of {size} bytes: the limit is {limit}", data={"size": size, "limit": limit}
        )
