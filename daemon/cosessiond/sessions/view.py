"""The session records in memory: a view of `$sessions` that follows the store's published batches.

Rule: it changes only by `put` and `remove`, called for durable changes; it is never ahead of the store. A decision
made from it is guarded by a compare, so being behind costs a second attempt and nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Final

from cosession.errors import CosessionError, InvalidRequest
from cosession.model import Session
from cosessiond.sessions.records import Held, is_live

#: So many ids are shown when a name is ambiguous.
_SHOWN_MAX: Final = 5
#: So many characters of a text of the caller go into an answer.
_TEXT_SHOWN = 128

#: Boot id, pid, start time.
ProcessKey = tuple[str, int, int]


class View:
    """All records by id, the live ones apart, the ended ones in the order in which they ended."""

    def __init__(self) -> None:
        self._live: dict[str, Held] = {}
        self._ended: dict[str, Held] = {}
        self._hosts: dict[ProcessKey, set[str]] = {}

    def put(self, held: Held) -> None:
        """The record as it is durable now."""
        session = held.session
        self.remove(session.id)
        if not is_live(session):
            self._ended[session.id] = held
            return
        self._live[session.id] = held
        for key in _process_keys(session):
            self._hosts.setdefault(key, set()).add(session.id)

    def remove(self, id: str) -> None:
        """The record is no more."""
        self._ended.pop(id, None)
        held = self._live.pop(id, None)
        for key in _process_keys(held.session) if held else ():
            self._hosts[key].discard(id)
            if not self._hosts[key]:
                del self._hosts[key]

    def hosted_by(self, process: ProcessKey) -> frozenset[str]:
        """The live sessions that have this process as an instance."""
        return frozenset(self._hosts.get(process, ()))

    def get(self, id: str) -> Held | None:
        """The record of a session, ended or not."""
        return self._live.get(id) or self._ended.get(id)

    def live(self, id: str) -> Held | None:
        """The record of a session that has not ended."""
        return self._live.get(id)

    @property
    def live_count(self) -> int:
        """How many sessions have not ended."""
        return len(self._live)

    @property
    def ended_count(self) -> int:
        """How many ended sessions are kept."""
        return len(self._ended)

    def live_sessions(self) -> list[Session]:
        """The sessions that have not ended."""
        return [held.session for held in self._live.values()]

    def ended_ids(self) -> list[str]:
        """The ended sessions, the one that ended first in front."""
        return list(self._ended)

    def oldest_ended(self, count: int) -> list[Held]:
        """The `count` sessions that ended first."""
        return list(islice(self._ended.values(), max(0, count)))

    def newest(self, *, ended: bool, project: str, limit: int) -> list[Held]:
        """At most `limit` records, newest registration first; of one project unless that is empty."""
        wanted = (h for h in self._all(ended=ended) if not project or h.session.project == project)
        return heapq.nlargest(limit, wanted, key=lambda held: (held.session.registered_at, held.session.id))

    def count(self, *, ended: bool, project: str) -> int:
        """How many records `newest` could give without a limit."""
        return sum(1 for held in self._all(ended=ended) if not project or held.session.project == project)

    def find(self, text: str) -> Held:
        """The session with this id, or the only one with this name; live ones go before ended ones.

        Raises not_found, or InvalidRequest when several have the name.
        """
        found = self.get(text)
        if found:
            return found
        for records in (self._live, self._ended):
            named = [held for held in records.values() if held.session.name == text] if text else []
            if len(named) == 1:
                return named[0]
            if named:
                ids = [held.session.id for held in named[:_SHOWN_MAX]]
                message = (
                    f"cannot tell which session {text[:_TEXT_SHOWN]!r} is: {len(named)} have that name; use an id: "
                )
                raise InvalidRequest(message + ", ".join(ids), data={"sessions": ids})
        raise unknown(text)

    def _all(self, *, ended: bool) -> Iterator[Held]:
        yield from self._live.values()
        if ended:
            yield from self._ended.values()


def _process_keys(session: Session) -> list[ProcessKey]:
    return [(i.boot_id, i.pid, i.start_time) for i in session.instances if i.judgeable]


def unknown(text: str) -> CosessionError:
    """The error for a session that is not there."""
    shown = text[:_TEXT_SHOWN]
    message = f"cannot find session {shown!r}: no session has that id or name; see `cosession sessions --all`"
    return CosessionError(message, code="not_found", data={"session": shown})


def has_ended(session: Session) -> CosessionError:
    """The error for a session that has ended."""
    message = f"cannot act for session {session.id}: it is {session.state} ({session.reason}); register it again"
    return CosessionError(message, code="session_ended", data={"session": session.id, "state": session.state})
