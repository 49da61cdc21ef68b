"""The claims in memory: a view of `$claims` that follows the store's published batches.

Rule: it changes only by `put` and `remove`, called for durable changes; it is never ahead of the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cosession.errors import CosessionError
from cosessiond.claims.records import Held

_TEXT_SHOWN: Final = 128
_TOKEN_DIGITS_MAX: Final = 19  # a revision has 63 bits


class View:
    """All claims by id, by project, by session and by fencing token, each in the order of their grants."""

    def __init__(self) -> None:
        self._claims: dict[str, Held] = {}
        self._projects: dict[str, dict[str, Held]] = {}
        self._sessions: dict[str, dict[str, Held]] = {}
        self._tokens: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._claims.values())

    def put(self, held: Held) -> None:
        """The record as it is durable now."""
        before = self._claims.get(held.id)
        if before is not None and before.claim.session != held.claim.session:
            self._leave(self._sessions, before.claim.session, held.id)
        self._tokens[held.claim.token] = held.id
        self._claims[held.id] = held
        self._projects.setdefault(held.claim.project, {})[held.id] = held
        self._sessions.setdefault(held.claim.session, {})[held.id] = held

    def remove(self, id: str) -> Held | None:
        """The record is no more; what it was."""
        held = self._claims.pop(id, None)
        if held is None:
            return None
        self._leave(self._projects, held.claim.project, id)
        self._leave(self._sessions, held.claim.session, id)
        del self._tokens[held.claim.token]
        return held

    def get(self, id: str) -> Held | None:
        """The claim with this id."""
        return self._claims.get(id)

    def of_project(self, project: str) -> list[Held]:
        """The claims of a project, in the order of their grants."""
        return list(self._projects.get(project, {}).values())

    def of_session(self, session: str) -> list[Held]:
        """The claims of a session."""
        return list(self._sessions.get(session, {}).values())

    def sessions(self) -> list[str]:
        """The sessions that have claims."""
        return list(self._sessions)

    def with_token(self, token: int) -> Held | None:
        """The claim with this fencing token."""
        return self._claims.get(self._tokens.get(token, ""))

    def find(self, text: str) -> Held:
        """The claim with this id or fencing token. Raises not_found."""
        held = self._claims.get(text)
        if held is None and text.isdecimal() and len(text) <= _TOKEN_DIGITS_MAX:
            held = self.with_token(int(text))
        if held is None:
            shown = text[:_TEXT_SHOWN]
            message = f"cannot find claim {shown!r}: none stands with that id or token; see `cosession claims --all`"
            raise CosessionError(message, code="not_found", data={"claim": shown})
        return held

    def _leave(self, groups: dict[str, dict[str, Held]], name: str, id: str) -> None:
        group = groups[name]
        del group[id]
        if not group:
            del groups[name]
