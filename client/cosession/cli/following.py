"""A watch as JSON lines: its items in order, across reconnects without a gap or a repeat.

Rule: the standard library's C parts only; where a watch stands and what follows an end is `cosession.positions`'
affair, here events are fetched and connections replaced, and whoever watches is asked to do the waiting.
"""

from __future__ import annotations

from time import monotonic

from cosession import positions
from cosession.cli import data
from cosession.cli.line import Broken, Line, jitter
from cosession.errors import CosessionError, Unreachable, error_from
from cosession.retries import back_off_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cosession.cli.options import Given

    #: Returns when the descriptor (-1: none) is readable or the seconds (None: no end) have passed.
    Wait = Callable[[int, float | None], None]

#: The fields of a change in their order, and what stands for those that are not there.
_CHANGE: dict[str, Any] = {
    "kind": "put",
    "key": "",
    "value": None,
    "version": 0,
    "create_revision": 0,
    "mod_revision": 0,
    "session": "",
    "time": 0.0,
}


class Following(Line):
    """The items of one watch, as maps with the fields of a change; kind `reset` where the rest no longer stands.

    `watched`: the parameters of `watch`. `snapshot`: begin with what is there, unless they name a start.
    """

    def __init__(self, given: Given, watched: dict[str, Any], *, snapshot: bool, wait: Wait) -> None:
        super().__init__(given)
        self._watched = watched
        self._live_only = not snapshot and not watched["start_revision"]
        self._wait = wait
        self._sleep = lambda wait_s: wait(-1, wait_s)
        self._position: positions.Position | None = None
        self._watch = 0
        self._head = 0
        self._may_take_long = False
        #: Since when (of the monotonic clock) there is no connection, None while there is one.
        self.away_since: float | None = None

    @property
    def revision(self) -> int:
        """Everything up to here has been handed out or is about to be."""
        return self._position.revision if self._position else 0

    @property
    def is_attached(self) -> bool:
        """Whether the daemon has taken the watch, be it long ago."""
        return self._position is not None

    @property
    def caught_up(self) -> bool:
        """Whether all is known that was there when the daemon was last asked."""
        return self._position is not None and self._position.synced and self._position.revision >= self._head

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from self._items(self._event())

    def _items(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        position = self._position
        assert position is not None, "an event of an attached watch"
        if event["kind"] == "end":
            position.ended(error_from(event.get("code", ""), event.get("message", ""), event.get("data", {})))
            self._lose()
            return
        entries = event.get("entries", ())
        step = position.reached(event["kind"], event["revision"], holds=bool(entries))
        if step == positions.NOTHING:
            return
        if step == positions.RESET:
            yield _item({"kind": "reset", "mod_revision": event["revision"]})
        yield from map(_item, event.get("changes", ()))
        yield from map(_item, entries)

    def _event(self) -> dict[str, Any]:
        """The next event of this watch; the connection is replaced as often as it takes."""
        while True:
            if self._socket is None:
                self._reattach()
            try:
                self._may_take_long = True
                message = self._receive()
            except Broken:
                self._lose()
                continue
            finally:
                self._may_take_long = False
            event = message.get("params")
            if message.get("method") == "watch.event" and isinstance(event, dict) and event.get("watch") == self._watch:
                return event

    def _has_more(self) -> bool:
        if self._may_take_long and self._socket is not None:
            self._wait(self._socket.fileno(), None)
            self.again()
        return super()._has_more()

    def _lose(self) -> None:
        self.close()
        self.away_since = self.away_since or monotonic()

    def _reattach(self) -> None:
        """A connection for the position reached: at once, then at growing intervals, for a bounded time."""
        patience_s = positions.RECONNECT_S if self._position else self._timeout_s
        give_up = (self.away_since or monotonic()) + patience_s
        attempt = 0
        while True:
            attempt += 1
            self._deadline = give_up
            try:
                self._attach()
            except Broken:
                self.close()
                if monotonic() >= give_up:
                    raise Unreachable(
                        f"cannot watch: {self._lost(attempt)}; see: cosession status", data={"path": self.path}
                    ) from None
            except CosessionError:
                self.close()
                raise
            else:
                self.away_since = None
                return
            self._wait(-1, back_off_s(attempt, jitter()))

    def _attach(self) -> None:
        """Connect and ask for what the position wants next; raises Broken when that must be done again."""
        self._connect()
        try:
            position = self._position or self._first_position()
            while not self._is_taken(position):
                pass
        except CosessionError as error:
            if error.code == "shutting_down":
                raise Broken from None
            raise
        self._position = position

    def _is_taken(self, position: positions.Position) -> bool:
        """Ask for the watch; False when another request, from where the position stands now, will do."""
        start_revision, epoch = position.begin()
        asked = {**self._watched, "start_revision": start_revision, "epoch": epoch}
        try:
            reply = self._call("watch", data.dumps(asked))
        except CosessionError as error:
            if error.code == "shutting_down":
                raise
            position.refused(error)
            return False
        position.attached(reply["epoch"])
        self._watch, self._head = reply["watch"], reply["revision"]
        return True

    def _first_position(self) -> positions.Position:
        """As asked for; a watch of live changes only starts behind what the daemon has now."""
        start_revision, epoch = self._watched["start_revision"], ""
        if self._live_only:
            now = self._call("ping", "{}")
            start_revision, epoch = now["revision"] + 1, now["epoch"]
        return positions.Position(self._watched["prefix"], start_revision, epoch)


def _item(found: dict[str, Any]) -> dict[str, Any]:
    """A change, an entry or a reset with the fields of a change."""
    return {name: found.get(name, default) for name, default in _CHANGE.items()}
