"""The verbs of watches, and what a watch sends.

Rule: names and meaning are those of `client/PROTOCOL.md`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from msgspec import Struct

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Change, Entry


class WatchReply(Reply, frozen=True, kw_only=True):
    """`watch` is the number that the events of this watch carry on this connection."""

    watch: int
    epoch: str = ""


class Watch(Request[WatchReply], frozen=True, kw_only=True):
    """Changes under `prefix` (or of exactly `key`) as events on this connection, from `start_revision` on.

    Without `start_revision`: first the entries as `snapshot` events, a `snapshot_end`, then live changes. With it:
    every change of that revision and later. `epoch`: the epoch that revision belongs to.
    Errors: compacted, future_revision, epoch_changed, overloaded.
    """

    method: ClassVar[str] = "watch"
    prefix: str = ""
    key: str = ""
    start_revision: int = 0
    epoch: str = ""
    project: str = GLOBAL
    space: str = "context"


class UnwatchReply(Reply, frozen=True, kw_only=True):
    """No event of that watch follows this reply."""


class Unwatch(Request[UnwatchReply], frozen=True, kw_only=True):
    """End a watch of this connection. Error: not_found."""

    method: ClassVar[str] = "unwatch"
    watch: int


class WatchEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a watch sends. `kind` says which fields are there; `revision` is always the position reached.

    snapshot: `entries`, a part of the snapshot taken at `revision`. snapshot_end: live changes follow.
    changes: `changes`, all of one batch that match. progress: nothing new up to `revision`.
    end: the watch is over; `code`, `message` and `data` are those of an error.
    """

    kind: Literal["snapshot", "snapshot_end", "changes", "progress", "end"]
    revision: int
    entries: list[Entry] = []
    changes: list[Change] = []
    code: str = ""
    message: str = ""
    data: dict[str, Any] = {}
