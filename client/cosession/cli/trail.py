"""The audit as it grows, as JSON lines: records in order, across reconnects without a gap or a repeat.

Ids are dense within an epoch, so the last one looked at is the whole position; `cosession.aio.audit` does the same for
the library.

Rule: the standard library's C parts only; who follows is asked to do the waiting.
"""

from __future__ import annotations

from time import monotonic

from cosession.cli.line import Line, jitter
from cosession.errors import CosessionError, EpochChanged, Unreachable
from cosession.positions import RECONNECT_S
from cosession.retries import back_off_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cosession.cli.options import Given

#: How long the daemon is asked to wait for a record, and what its answer may take beyond that.
WAIT_S = 30.0
ANSWER_S = 10.0
_PASSING = ("overloaded", "shutting_down", "timed_out", "unreachable")


class Trail(Line):
    """Records that fit `filters`, oldest first, behind id `after` of `epoch`.

    A map without `id` stands for what is to be said between two: `reset` (the store began anew, and ids with it) or
    `cut` (so many records were cut before they could be shown).
    """

    def __init__(
        self,
        given: Given,
        filters: dict[str, Any],
        *,
        after: int,
        epoch: str,
        wait: Callable[[int, float | None], None],
    ) -> None:
        super().__init__(given, timeout_s=WAIT_S + ANSWER_S)
        self._filters = filters
        self._after = after
        self._epoch = epoch
        self._wait = wait
        self._sleep = lambda wait_s: wait(-1, wait_s)
        #: Since when (of the monotonic clock) the daemon is away, None while it is there.
        self.away_since: float | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        attempt = 0
        while True:
            try:
                page = self._page()
            except EpochChanged:
                self._after, self._epoch = 0, ""
                yield {"reset": True}
                continue
            except CosessionError as error:
                attempt += 1
                self._away(error)
                self._wait(-1, back_off_s(attempt, jitter()))
                continue
            attempt, self.away_since = 0, None
            if page["first"] - 1 > self._after:
                yield {"cut": page["first"] - 1 - self._after}
            self._after, self._epoch = max(page["next"], page["first"] - 1), page["epoch"]
            yield from page["records"]

    def _page(self) -> dict[str, Any]:
        """What there is behind the position, waited for."""
        self.again()
        where = {"after": self._after, "epoch": self._epoch, "wait_s": WAIT_S}
        return self.ask("audit", {**self._filters, **where})

    def _away(self, error: CosessionError) -> None:
        """Whether it is worth asking again."""
        self.close()
        self.away_since = self.away_since or monotonic()
        if error.code not in _PASSING:
            raise error
        if monotonic() - self.away_since > RECONNECT_S:
            raise Unreachable(f"cannot follow the audit: {error.message}", data=error.data) from None

    def _has_more(self) -> bool:
        if self._socket is not None:
            self._wait(self._socket.fileno(), self._left_s("read"))
        return super()._has_more()
