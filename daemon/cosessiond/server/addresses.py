"""What mail may know of the sessions: who they are, by which words they are meant, and who goes on for whom.

Rule: mail and sessions never import one another; this is the one place that knows both.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from cosession.errors import CosessionError
from cosession.model import Session
from cosession.nearest import near
from cosessiond.mail.ports import Addressee
from cosessiond.sessions.registry import Registry

#: Names that are looked at for those which are nearly the one that was meant: comparing takes time.
LOOKED_MAX: Final = 256
#: How many of them a refusal names.
NAMED_MAX: Final = 3
#: Steps from a session to who went on for it; a chain that is longer is a circle.
_STEPS_MAX: Final = 64


class Addresses:
    """The sessions of a registry, as mail sees them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def find(self, text: str, near_project: str) -> Addressee:
        """See `mail.ports.Sessions`."""
        view = self._registry.view
        if view.get(text) is None:
            named = [each for each in view.live_sessions() if each.name == text and each.project == near_project]
            if text and len(named) == 1:
                return _addressee(named[0])
        try:
            return _addressee(view.find(text).session)
        except CosessionError as error:
            found = self._nearly(text, near_project) if error.code == "not_found" else []
            if not found:
                raise
            called = " or ".join(map(repr, found))
            message = f"{error.message.partition(';')[0]}; did you mean {called}? see `cosession sessions`"
            raise CosessionError(message, code=error.code, data={**error.data, "nearest": found}) from None

    def get(self, id: str) -> Addressee | None:
        """See `mail.ports.Sessions`."""
        held = self._registry.view.get(id)
        return _addressee(held.session) if held is not None else None

    def live_in(self, project: str) -> list[Addressee]:
        """See `mail.ports.Sessions`."""
        return [_addressee(each) for each in self._registry.view.live_sessions() if each.project == project]

    def successor(self, id: str) -> Addressee | None:
        """See `mail.ports.Sessions`."""
        view = self._registry.view
        held = view.get(id)
        for _ in range(_STEPS_MAX):
            if held is None or view.live(held.session.id) is not None:
                break
            next_one = held.session.replaced_by or held.session.recovered_by
            held = view.get(next_one) if next_one else None
        if held is None or held.session.id == id or view.live(held.session.id) is None:
            return None
        return _addressee(held.session)

    def _nearly(self, text: str, project: str) -> list[str]:
        """Names and ids that are nearly `text`, of live sessions, those of the project first."""
        live = sorted(self._registry.view.live_sessions(), key=lambda each: each.project != project)
        words = (word for each in live for word in (each.name, each.id) if word)
        return near(text, dict.fromkeys(islice(words, LOOKED_MAX)), NAMED_MAX)


def _addressee(session: Session) -> Addressee:
    return Addressee(session.id, session.name, session.project, session.state)
