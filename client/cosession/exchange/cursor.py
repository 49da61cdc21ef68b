"""The events of a watch as what it delivers: changes, and a `Reset` where what came before no longer stands.

Rule: pure; where a watch stands and what follows an end is `cosession.positions`' affair, here are only the structs.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from cosession import positions
from cosession.errors import CosessionError, error_from
from cosession.messages.watches import Watch, WatchEvent, WatchReply
from cosession.model import Change, Entry


class Reset(Struct, frozen=True, kw_only=True):
    """What a watch delivered before no longer stands; all that is there now follows, as of `mod_revision`.

    Has the fields of a `Change`, so that a program that looks at `kind` first need not tell them apart otherwise.
    """

    kind: Literal["reset"] = "reset"
    key: str = ""
    value: None = None
    version: int = 0
    create_revision: int = 0
    mod_revision: int
    session: str = ""
    time: float = 0.0
    purged: bool = False


WatchItem = Change | Reset


class WatchCursor:
    """The position of one watch.

    Send `request()`, tell it the answer with `attached` or `refused`, feed every event; when `over` is set (or the
    connection is lost) do that again. `revision`, `epoch` and `synced` are those of `positions.Position`.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._position = positions.Position(watch.prefix or watch.key, watch.start_revision, watch.epoch)

    @property
    def revision(self) -> int:
        """The position reached."""
        return self._position.revision

    @property
    def epoch(self) -> str:
        """The epoch of `revision`."""
        return self._position.epoch

    @property
    def synced(self) -> bool:
        """Whether the snapshot, if one was asked for, is complete."""
        return self._position.synced

    @property
    def over(self) -> bool:
        """Whether this watch has ended and another one must be asked for."""
        return self._position.over

    def request(self) -> Watch:
        """What to ask the daemon for now. Raises Overloaded when snapshots never come to their end."""
        start_revision, epoch = self._position.begin()
        return replace(self._watch, start_revision=start_revision, epoch=epoch)

    def attached(self, reply: WatchReply) -> None:
        """The daemon took the request; its events follow."""
        self._position.attached(reply.epoch)

    def refused(self, error: CosessionError) -> None:
        """The daemon refused the request. Returns when another `request()` will do; else raises the error."""
        self._position.refused(error)

    def feed(self, event: WatchEvent) -> list[WatchItem]:
        """What the event delivers, in order. Raises the error of a watch that ended for good."""
        if event.kind == "end":
            self._position.ended(error_from(event.code, event.message, event.data))
            return []
        step = self._position.reached(event.kind, event.revision, holds=bool(event.entries))
        if step == positions.NOTHING:
            return []
        resets: list[WatchItem] = [Reset(mod_revision=event.revision)] if step == positions.RESET else []
        return [*resets, *event.changes, *map(_as_change, event.entries)]


def _as_change(entry: Entry) -> Change:
    return Change(
        kind="put",
        key=entry.key,
        value=entry.value,
        version=entry.version,
        create_revision=entry.create_revision,
        mod_revision=entry.mod_revision,
        session=entry.session,
        time=entry.time,
    )
