"""What a session is told through its hooks, gathered from what is durable: who else is there, what is new, its letters.

Rule: reads memory and changes nothing; how it is said is `hooks.briefing`.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from msgspec import DecodeError, json, msgpack

from cosession.model import Letter, Session
from cosessiond.hooks import briefing
from cosessiond.hooks.event import Event
from cosessiond.server.core import Core
from cosessiond.store.engine import Entry

#: How long a crash is offered for recovery to those who begin.
OFFERED_S: Final = 24 * 3600.0
#: Letters that one hook gives.
LETTERS_MAX: Final = 8
_PLAN: Final = "plan/"
_decode = msgpack.Decoder().decode


def beginning(core: Core, session: Session, event: Event) -> str:
    """For a session that begins, or whose conversation was compacted."""
    view, now_s = core.registry.view, core.clock.wall_ms() / 1000
    near = [held.session for held in view.newest(ended=True, project=session.project, limit=64)]
    others = [each for each in near if each.id != session.id]
    plan = islice(core.store.scan("context", session.project, _PLAN), briefing.CHANGES_MAX)
    return briefing.beginning(
        session=session.id,
        project=session.project,
        others=[_other(core, each, now_s) for each in others if view.live(each.id)],
        crashed=[_other(core, each, now_s) for each in others if _is_offered(each, now_s)],
        plan=[_note(entry, now_s) for entry in plan],
        source=event.source,
    )


def news(core: Core, session: Session) -> str:
    """What others wrote since this session was told last; "" for nothing."""
    changed = core.attention.news(session.id, session.project)
    now_s = core.clock.wall_ms() / 1000
    notes: list[briefing.Note] = []
    for each in changed[: briefing.CHANGES_MAX]:
        entry = core.store.get(("context", each.project, each.key))
        gone = briefing.Note(key=each.key, value="(deleted)", writer=each.session, age_s=0.0)
        notes.append(_note(entry, now_s) if entry is not None else gone)
    return briefing.news(notes, len(changed) - len(notes))


def letters(found: list[Letter]) -> str:
    """Letters as a session is to read them; "" for none."""
    return briefing.letters([(each.sender, each.importance, each.text) for each in found])


def _is_offered(session: Session, now_s: float) -> bool:
    return session.state in {"crashed", "lost"} and now_s - session.changed_at <= OFFERED_S


def _other(core: Core, session: Session, now_s: float) -> briefing.Other:
    held = [each.claim for each in core.referee.view.of_session(session.id)]
    return briefing.Other(
        id=session.id,
        name=session.name,
        agent=session.agent,
        state=session.state,
        branch=session.branch,
        since_s=max(0.0, now_s - session.changed_at),
        claims=tuple((target, claim.purpose) for claim in held for target in claim.targets),
    )


def _note(entry: Entry, now_s: float) -> briefing.Note:
    try:
        value = json.encode(_decode(entry.value)).decode()
    except (DecodeError, UnicodeError):
        value = "(unreadable)"
    age_s = max(0.0, now_s - entry.time_ms / 1000)
    return briefing.Note(key=entry.id[2], value=value, writer=entry.session, age_s=age_s)
