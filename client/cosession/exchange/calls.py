"""One call's life: its request id, and after each failure whether to try again, give up, or admit not to know.

Three facts decide: what kind of request it is, how it failed, and whether an attempt that was sent whole is still
without an answer. The table is `decide`; `CallPlan` keeps the facts and the count of attempts. A write is repeated only
with the same request id and only within the epoch it was sent in, since request ids do not cross epochs (DESIGN 5, 6).

Rule: pure. Nothing here waits, sends or looks at a clock; who drives it does what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import msgpack

from cosession.errors import Conflict, CosessionError, InvalidRequest, UnknownOutcome, Unreachable
from cosession.messages import Request, admin, reply_type, sessions, store
from cosession.messages.base import R
from cosession.model import Entry
from cosession.protocol import ClientConnection

Q = TypeVar("Q", bound=Request[Any])

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)

#: Seconds before attempt 2, 3, ...; each is multiplied by a random number between 0.5 and 1.
BACK_OFF_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
#: A request whose connection was lost so often is not sent again: it may be what brings the daemon down.
LINKS_LOST_MAX: Final = 4
#: How often a request is refused as overloaded or shutting down before the caller hears of it.
REFUSALS_MAX: Final = 6


class LinkLost(Exception):
    """The connection ended before the answer came; the argument says how. It never leaves the client library."""


class Kind(Enum):
    """What repeating a request does."""

    READ = "read"  # nothing
    WRITE = "write"  # nothing more than once, thanks to its request id, within one epoch
    REPEATABLE = "repeatable"  # the same state again
    ONCE = "once"  # something else: never repeated when it may have been heard


KINDS: Final[dict[type[Request[Any]], Kind]] = {
    admin.Hello: Kind.READ,
    admin.Ping: Kind.READ,
    admin.Status: Kind.READ,
    admin.Stop: Kind.ONCE,
    store.Get: Kind.READ,
    store.Range: Kind.READ,
    store.History: Kind.READ,
    store.Put: Kind.WRITE,
    store.Delete: Kind.WRITE,
    store.Merge: Kind.WRITE,
    store.Txn: Kind.WRITE,
    store.Watch: Kind.READ,
    store.Unwatch: Kind.READ,
    sessions.Register: Kind.REPEATABLE,
    sessions.Heartbeat: Kind.REPEATABLE,
    sessions.Close: Kind.REPEATABLE,
    sessions.List: Kind.READ,
    sessions.Explain: Kind.READ,
}


#: The field that makes a request safe to repeat.
_ID_FIELD: Final[dict[type[Request[Any]], str]] = {
    **{request: "request_id" for request, kind in KINDS.items() if kind is Kind.WRITE},
    sessions.Register: "id",
}


class Step(Enum):
    """What to do after a failure."""

    RETRY = "retry"
    RAISE = "raise"
    UNKNOWN = "unknown"


LOST: Final = "lost"
_RETRIED: Final = frozenset({LOST, "overloaded", "shutting_down"})
#: Ends without an answer: they say nothing about what the daemon did.
_SILENT: Final = frozenset({LOST, "timed_out", "unreachable", "closed"})
#: Refusals that an earlier, unanswered attempt of the same request would have met as well, or that are given only after
#: the request id was looked up: that attempt had no effect.
_DECISIVE: Final = frozenset(
    {
        "conflict",
        "request_id_reused",
        "parse_error",
        "invalid_request",
        "invalid_params",
        "unknown_method",
        "too_large",
    }
)


def decide(kind: Kind, failure: str, *, unanswered: bool) -> Step:
    """What to do after `failure` (`LOST` or a code of the catalogue).

    `unanswered`: an attempt was sent whole and got no answer, so a write may have taken effect.
    """
    doubtful = unanswered and kind in (Kind.WRITE, Kind.ONCE)
    if failure in _RETRIED:
        return Step.UNKNOWN if doubtful and kind is Kind.ONCE else Step.RETRY
    if failure in _DECISIVE or not doubtful:
        return Step.RAISE
    return Step.UNKNOWN


def back_off_s(attempt: int, jitter: float) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed; `jitter` is random in [0, 1)."""
    return BACK_OFF_S[min(attempt, len(BACK_OFF_S)) - 1] * (0.5 + jitter / 2)


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
        self._kind = KINDS.get(type(request), Kind.ONCE)
        self._sent = False
        self._unanswered = False
        self._epoch = ""
        self._failures = 0
        self._links_lost = 0

    def begin(self, epoch: str) -> None:
        """An attempt on a connection to this epoch. Raises UnknownOutcome where repeating a write is not safe."""
        if self._unanswered and self._kind is Kind.WRITE and epoch != self._epoch:
            raise self._unknown(f"the store began epoch {epoch} before the answer came")
        self._epoch = epoch

    def sent(self) -> None:
        """The whole request was handed to the system: from now on it may take effect."""
        self._sent = True

    def after(self, failure: LinkLost | CosessionError, *, jitter: float, left_s: float) -> float:
        """Seconds to wait before the next attempt; raises when there is none, or none within `left_s` seconds."""
        if isinstance(failure, UnknownOutcome):
            raise failure
        code = failure.code if isinstance(failure, CosessionError) else LOST
        if code in _SILENT:
            self._unanswered |= self._sent
        self._sent = False
        self._failures += 1
        self._links_lost += code == LOST
        step = decide(self._kind, code, unanswered=self._unanswered)
        if step is Step.RETRY:
            wait_s = back_off_s(self._failures, jitter)
            if self._failures <= REFUSALS_MAX and self._links_lost <= LINKS_LOST_MAX and wait_s < left_s:
                return wait_s
            step = decide(self._kind, "unreachable", unanswered=self._unanswered)
        if step is Step.UNKNOWN:
            raise self._unknown(str(failure)) from failure
        if isinstance(failure, LinkLost):
            raise Unreachable(
                f"cannot call {self.request.method}: the connection was lost {self._links_lost} times ({failure}); "
                "run: cosession status"
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
    if isinstance(request, (store.Watch, store.Unwatch)):
        raise InvalidRequest(f"cannot call {request.method}: its events need a connection of their own; use watch()")
