"""The closed catalogue of errors: every code, its JSON-RPC number, whether a retry can help, its exit code.

Rule: nothing in cosession answers, raises or exits with a code that is not in `CATALOGUE`.
A message reads "cannot X: why; do Y". Codes are what programs match on; messages are for people and may change.

Standard library only and light: the command line imports this module on its fast path.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

# code: (JSON-RPC number, retryable, exit code of the command line)
# -327xx are JSON-RPC 2.0's own (https://www.jsonrpc.org/specification#error_object); ours count down from -32000.
# Exit codes follow sysexits.h where it has a fitting one; 1 = "no" (absent), 3 = conflict.
CATALOGUE: Final[dict[str, tuple[int, bool, int]]] = {
    # the frame or the call is wrong
    "parse_error": (-32700, False, 65),
    "invalid_request": (-32600, False, 65),
    "unknown_method": (-32601, False, 64),
    "invalid_params": (-32602, False, 64),
    "too_large": (-32001, False, 65),
    "incompatible": (-32002, False, 76),
    # the store says no
    "conflict": (-32010, False, 3),
    "compacted": (-32011, False, 4),
    "future_revision": (-32012, False, 65),
    "epoch_changed": (-32013, False, 5),
    "request_id_reused": (-32014, False, 65),
    "not_found": (-32015, False, 1),
    "store_full": (-32016, False, 73),
    "disk_full": (-32017, True, 73),
    "read_only": (-32018, False, 73),
    "wrong_type": (-32019, False, 65),
    "quota_exceeded": (-32024, False, 73),
    # who you are
    "not_allowed": (-32020, False, 77),
    "session_ended": (-32021, False, 77),
    # claims
    "claimed": (-32022, True, 3),
    "fenced": (-32023, False, 3),
    # the daemon's state
    "overloaded": (-32030, True, 75),
    "shutting_down": (-32031, True, 75),
    "internal": (-32603, False, 70),
    "io_error": (-32032, False, 70),
    "damaged": (-32033, False, 78),
    # raised on the client's side only
    "unreachable": (-32040, True, 69),
    "timed_out": (-32041, True, 75),
    "unknown_outcome": (-32042, False, 75),
    "already_running": (-32043, False, 75),
    "config": (-32044, False, 78),
    "closed": (-32045, False, 70),
}


class CosessionError(Exception):
    """Base of every error this project raises on purpose; carries a code of the catalogue.

    Programs match on the class, or on `code` where there is none of its own; `message` is for people. `data` is JSON
    data that depends on the code. `retryable`: the same call may succeed later.
    """

    code: str = "internal"
    message: str
    data: dict[str, Any]

    def __init__(self, message: str, *, code: str = "", data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        if code:
            self.code = code
        if self.code not in CATALOGUE:
            raise AssertionError(f"error code not in the catalogue: {self.code}")
        self.message = message
        self.data = data or {}

    @property
    def retryable(self) -> bool:
        """True when the same call may succeed later without any change."""
        return CATALOGUE[self.code][1]

    @property
    def number(self) -> int:
        """The number of the code in JSON-RPC 2.0 (https://www.jsonrpc.org/specification#error_object)."""
        return CATALOGUE[self.code][0]

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this error; as in sysexits.h where it has one that fits."""
        return CATALOGUE[self.code][2]


class InvalidRequest(CosessionError):
    """The call is malformed: unknown method, wrong type, no JSON data, a value outside its domain."""

    code = "invalid_params"


class TooLarge(CosessionError):
    """A key, value, batch or frame over its limit; `data` has `size` and `limit` in bytes."""

    code = "too_large"


class Conflict(CosessionError):
    """A compare failed: nothing was written. `current` is the entry that stands now (None: absent); after a three-way
    merge `paths` are JSON pointers (RFC 6901) to what both sides changed. Read again, decide anew, or let `update`
    do that.
    """

    code = "conflict"

    @property
    def current(self) -> Any:
        """The entry as it stands now, None when absent; a `cosession.model.Entry` in the client library."""
        return self.data.get("current")

    @property
    def paths(self) -> list[str]:
        """After a three-way merge: JSON pointers to what both sides changed; [""] is the whole value."""
        return list(self.data.get("paths", []))


class Claimed(CosessionError):
    """Another session holds what was to be claimed, or waits for it ahead; `data["blockers"]` says who, for what, how
    long still. Wait (`wait_s`), choose other targets, or ask the holder.
    """

    code = "claimed"


class Fenced(CosessionError):
    """The write carried the fencing token of a claim that no longer stands: nothing was written. Claim again, and look
    what others did meanwhile.
    """

    code = "fenced"


class Compacted(CosessionError):
    """The revision asked for is below the log window; `data["compact_revision"]` is the oldest still there. `history`
    may still have that version of an entry.
    """

    code = "compacted"


class EpochChanged(CosessionError):
    """The store lives in another epoch than the client remembers: what was read before says nothing any more; read all
    anew.
    """

    code = "epoch_changed"


class NotAllowed(CosessionError):
    """The caller may not do this: another's session, process or daemon, or a space that only sessions write."""

    code = "not_allowed"


class Overloaded(CosessionError):
    """A named limit of counts or queues is hit, and a few repeats did not help; the same call may succeed later."""

    code = "overloaded"


class Unreachable(CosessionError):
    """No daemon answers on the socket, and none could be started; the message says why. No entry was written."""

    code = "unreachable"


class TimedOut(CosessionError):
    """No answer within the time allowed: no entry was written. A write that was sent and got no answer is
    `UnknownOutcome`.
    """

    code = "timed_out"


class UnknownOutcome(CosessionError):
    """A write was sent and its answer never came: it may have taken effect. Repeating it with `data["request_id"]` as
    `request_id` is safe, within one epoch: it is done once, and the repeat is told the outcome.
    """

    code = "unknown_outcome"


class Closed(CosessionError):
    """The client, session or watch was closed by this program, or was made before fork(): open another."""

    code = "closed"


class ConfigError(CosessionError):
    """Configuration, permissions, paths or schema forbid the start; exit code 78."""

    code = "config"


_BY_CODE: Final[dict[str, type[CosessionError]]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        TooLarge,
        Conflict,
        Claimed,
        Fenced,
        Compacted,
        EpochChanged,
        NotAllowed,
        Overloaded,
        Unreachable,
        TimedOut,
        UnknownOutcome,
        Closed,
        ConfigError,
    )
}


def error_from(code: str, message: str, data: dict[str, Any] | None = None) -> CosessionError:
    """The typed error for a code received from a peer.

    A code this version does not know becomes `internal` with the foreign code named, so that a newer
    daemon never makes an older client fail in an untyped way.
    """
    if code not in CATALOGUE:
        return CosessionError(f"{message} (unknown error code {code!r})", code="internal", data=data)
    return _BY_CODE.get(code, CosessionError)(message, code=code, data=data)
