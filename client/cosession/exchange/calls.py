"""One call's life: what kind of request it is, its request id, its reply, and what the caller hears in the end.

What follows a failure is decided in `cosession.retries`; `CallPlan` is one call through that.

Rule: pure. Nothing here waits, sends or looks at a clock; who drives it does what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from msgspec import msgpack

from cosession.errors import Conflict, CosessionError, InvalidRequest, UnknownOutcome, Unreachable
from cosession.messages import (
    Request,
    admin,
    audit,
    backup,
    checkpoints,
    claims,
    debug,
    hooks,
    mail,
    past,
    recovery,
    reply_type,
    sessions,
    store,
    turns,
    watches,
)
from cosession.messages.base import R
from cosession.model import Entry
from cosession.protocol import ClientConnection
from cosession.retries import ASIDE, LOST, ONCE, READ, REPEATABLE, RETRY, UNKNOWN, WRITE, Attempts

if TYPE_CHECKING:
    from cosession.retries import Kind

Q = TypeVar("Q", bound=Request[Any])

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)


class LinkLost(Exception):
    """The connection ended before the answer came; the argument says how. It never leaves the client library."""


#: What repeating each request does.
KINDS: Final[dict[type[Request[Any]], Kind]] = {
    admin.Hello: READ,
    admin.Ping: READ,
    admin.Status: READ,
    admin.Reload: REPEATABLE,
    admin.Scrub: READ,
    admin.Stop: ONCE,
    backup.BackupNow: REPEATABLE,
    backup.BackupList: READ,
    backup.BackupVerify: READ,
    store.Get: READ,
    store.Range: READ,
    past.History: READ,
    past.Compact: REPEATABLE,
    past.RevisionAt: READ,
    past.Revert: WRITE,
    past.Purge: WRITE,
    turns.Turn: ASIDE,
    audit.Audit: READ,
    store.Put: WRITE,
    store.Delete: WRITE,
    store.Merge: WRITE,
    store.Add: WRITE,
    store.Append: WRITE,
    store.Txn: WRITE,
    watches.Watch: READ,
    watches.Unwatch: READ,
    sessions.Register: REPEATABLE,
    sessions.Heartbeat: REPEATABLE,
    sessions.Close: REPEATABLE,
    sessions.List: READ,
    sessions.Explain: READ,
    sessions.WhyNot: READ,
    sessions.SimulateCrash: ONCE,  # it may have come back meanwhile
    claims.Acquire: REPEATABLE,  # by the session that has it already: the same claim
    claims.Renew: REPEATABLE,
    claims.Release: REPEATABLE,
    claims.List: READ,
    claims.Check: READ,
    claims.Explain: READ,
    checkpoints.Save: WRITE,
    checkpoints.List: READ,
    checkpoints.Get: READ,
    recovery.Recover: REPEATABLE,  # by the session that has recovered it already: what it has
    mail.Send: WRITE,
    mail.Inbox: READ,  # what it hands over stays unread, so that a lost answer loses no letter
    mail.Read: REPEATABLE,
    hooks.Hook: REPEATABLE,  # what it claims it has already; what it tells may be told twice
    debug.Clients: READ,
    debug.Watches: READ,
    debug.Tasks: READ,
    debug.Queues: READ,
    debug.Locks: READ,
    debug.Metrics: READ,
    debug.Tail: READ,
    debug.TraceRequests: REPEATABLE,
    debug.LogLevel: REPEATABLE,
}

#: The field that makes a request safe to repeat.
_ID_FIELD: Final[dict[type[Request[Any]], str]] = {
    **{request: "request_id" for request, kind in KINDS.items() if kind == WRITE},
    sessions.Register: "id",
}


class RequestIds:
    """Makes request ids: ULIDs (https://github.com/ulid/spec), 26 characters that sort by time."""

    def __init__(self, wall_ms: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._wall_ms = wall_ms
        self._random_bytes = random_bytes

    def __call__(self) -> str:
        """A new id; ids made in the same millisecond are in no order."""
        number = (self._wall_ms() & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(self._random_bytes(10))
        return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def prepared(request: Q, new_id: Callable[[], str]) -> Q:
    """The request as it may be repeated: a write with a request id, a registration with a session id."""
    name = _ID_FIELD.get(type(request), "")
    if not name or getattr(request, name):
        return request
    return msgspec.structs.replace(request, **{name: new_id()})


def encode_call(connection: ClientConnection, request: Request[Any]) -> tuple[int, bytes]:
    """The id and the bytes of a call. Raises InvalidRequest for what no message can hold, TooLarge, Overloaded."""
    try:
        return connection.call(request)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # UnicodeError is a ValueError
        raise InvalidRequest(
            f"cannot call {request.method}: {error}; strings are valid UTF-8, numbers 64-bit"
        ) from None


@cache
def _reply_decoder(request: type[Request[Any]]) -> msgpack.Decoder[Any]:
    return msgpack.Decoder(reply_type(request))


def decode_reply(request: Request[R], body: bytes) -> R:
    """The typed reply; raises LinkLost when it cannot be read, since nothing after it can be trusted either."""
    try:
        reply: R = _reply_decoder(type(request)).decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise LinkLost(f"its answer to {request.method} cannot be read: {str(error)[:200]}") from None
    return reply


class CallPlan(Generic[R]):
    """One call through all its attempts.

    For each attempt: `begin(epoch)` when a connection is there, `sent()` once the whole request is out, then either the
    reply, or `after(failure)`, which returns the seconds to wait before the next attempt or raises what the caller
    gets.
    """

    def __init__(self, request: Request[R], new_id: Callable[[], str]) -> None:
        self.request = prepared(request, new_id)
        self._attempts = Attempts(KINDS.get(type(request), ONCE))

    def begin(self, epoch: str) -> None:
        """An attempt on a connection to this epoch. Raises UnknownOutcome where repeating a write is not safe."""
        if not self._attempts.begin(epoch):
            raise self._unknown(f"the store began epoch {epoch} before the answer came")

    def sent(self) -> None:
        """The whole request was handed to the system: from now on it may take effect."""
        self._attempts.sent()

    def after(self, failure: LinkLost | CosessionError, *, jitter: float, left_s: float) -> float:
        """Seconds to wait before the next attempt; raises when there is none, or none within `left_s` seconds."""
        if isinstance(failure, UnknownOutcome):
            raise failure
        code = failure.code if isinstance(failure, CosessionError) else LOST
        step, wait_s = self._attempts.after(code, jitter=jitter, left_s=left_s)
        if step == RETRY:
            return wait_s
        if step == UNKNOWN:
            raise self._unknown(str(failure)) from failure
        if isinstance(failure, LinkLost):
            raise Unreachable(
                f"cannot call {self.request.method}: the connection was lost {self._attempts.links_lost} times "
                f"({failure}); run: cosession status"
            ) from failure
        raise with_current_entry(failure)

    def _unknown(self, why: str) -> UnknownOutcome:
        request_id = getattr(self.request, "request_id", "")
        advice = f"repeat it with request_id={request_id!r}" if request_id else "look at what is there now"
        return UnknownOutcome(
            f"cannot tell whether {self.request.method} took effect: {why}; {advice}",
            data={"request_id": request_id, "method": self.request.method},
        )


def with_current_entry(error: CosessionError) -> CosessionError:
    """The same error; in a conflict the current entry as a `model.Entry` in place of the map that came."""
    if isinstance(error, Conflict) and isinstance(error.data.get("current"), dict):
        try:
            error.data["current"] = msgspec.convert(error.data["current"], Entry)
        except msgspec.ValidationError:
            error.data["current"] = None
    return error


def refuse_streams(request: Request[Any]) -> None:
    """Raise InvalidRequest for requests that make no sense on a connection shared by calls."""
    if isinstance(request, (watches.Watch, watches.Unwatch)):
        raise InvalidRequest(f"cannot call {request.method}: its events need a connection of their own; use watch()")
