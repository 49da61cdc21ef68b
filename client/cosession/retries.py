"""What to do after a call failed: try again, give up, or admit not to know. Promise P2 stands or falls here.

Three facts decide: what kind of request it is, how it failed, and whether an attempt that was sent is still without an
answer. The table is `decide`; `Attempts` keeps the facts and the count. A write is repeated only with the same request
id and only within the epoch it was sent in, since request ids do not cross epochs.

Rule: one table for the library and the fast verbs, which cannot load the library. So: standard library only and light,
plain strings where an enumeration would cost more than the rest, and nothing here waits, sends or looks at a clock.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Literal

    Kind = Literal["read", "write", "repeatable", "once", "aside"]
    Step = Literal["retry", "raise", "unknown"]

# What repeating a request does:
READ: Final = "read"  # nothing
WRITE: Final = "write"  # nothing more than once, thanks to its request id, within one epoch
REPEATABLE: Final = "repeatable"  # the same state again
ONCE: Final = "once"  # something else: never repeated when it may have been heard
ASIDE: Final = "aside"  # nothing, and who asks can do without: a refusal is the answer

# What to do after a failure:
RETRY: Final = "retry"
RAISE: Final = "raise"
UNKNOWN: Final = "unknown"

#: Seconds before attempt 2, 3, ...; each is multiplied by a random number between 0.5 and 1.
BACK_OFF_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
#: A request whose connection was lost so often is not sent again: it may be what brings the daemon down.
LINKS_LOST_MAX: Final = 4
#: How often a request is refused as overloaded or shutting down before the caller hears of it.
REFUSALS_MAX: Final = 6

#: The connection ended before the answer came; stands beside the codes of the catalogue.
LOST: Final = "lost"
_RETRIED: Final = frozenset({LOST, "overloaded", "shutting_down"})
#: Ends without an answer: they say nothing about what the daemon did.
_SILENT: Final = frozenset({LOST, "timed_out", "unreachable", "closed"})
#: Refusals that an earlier, unanswered attempt of the same request would have met as well, or that are given only after
#: the request id was looked up: that attempt had no effect.
_DECISIVE: Final = frozenset(
    {
        "conflict",
        "fenced",
        "request_id_reused",
        "parse_error",
        "invalid_request",
        "invalid_params",
        "unknown_method",
        "too_large",
        "wrong_type",
    }
)


def decide(kind: Kind, failure: str, *, unanswered: bool) -> Step:
    """What to do after `failure` (`LOST` or a code of the catalogue).

    `unanswered`: an attempt was sent whole and got no answer, so a write may have taken effect.
    """
    doubtful = unanswered and kind in (WRITE, ONCE)
    if kind == ASIDE and failure != LOST:
        return RAISE
    if failure in _RETRIED:
        return UNKNOWN if doubtful and kind == ONCE else RETRY
    if failure in _DECISIVE or not doubtful:
        return RAISE
    return UNKNOWN


def back_off_s(attempt: int, jitter: float) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed; `jitter` is random in [0, 1)."""
    return BACK_OFF_S[min(attempt, len(BACK_OFF_S)) - 1] * (0.5 + jitter / 2)


class Attempts:
    """The attempts at one request.

    For each: `begin(epoch)` when a connection is there, `sent()` once the request may be heard, then either the reply,
    or `after(failure)`.
    """

    def __init__(self, kind: Kind) -> None:
        self.links_lost = 0
        self._kind: Kind = kind
        self._sent = False
        self._unanswered = False
        self._epoch = ""
        self._failures = 0

    def begin(self, epoch: str) -> bool:
        """An attempt on a connection to this epoch; False where repeating a write is not safe: it stays unknown."""
        if self._unanswered and self._kind == WRITE and epoch != self._epoch:
            return False
        self._epoch = epoch
        return True

    def sent(self) -> None:
        """The request was handed to the system: from now on it may take effect."""
        self._sent = True

    def after(self, failure: str, *, jitter: float, left_s: float) -> tuple[Step, float]:
        """What to do after `failure`, and the seconds to wait before a retry. There is none beyond `left_s` seconds."""
        if failure in _SILENT:
            self._unanswered |= self._sent
        self._sent = False
        self._failures += 1
        self.links_lost += failure == LOST
        step = decide(self._kind, failure, unanswered=self._unanswered)
        if step != RETRY:
            return step, 0.0
        wait_s = back_off_s(self._failures, jitter)
        if self._failures <= REFUSALS_MAX and self.links_lost <= LINKS_LOST_MAX and wait_s < left_s:
            return RETRY, wait_s
        return decide(self._kind, "unreachable", unanswered=self._unanswered), 0.0
