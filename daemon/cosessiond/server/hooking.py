"""One event of a hook on its way: whose it is, whether its session is known, what follows from it, what is answered.

The steps, each of which may have to wait for the disk: know the session (register it, when the place is told), then by
kind: tell it what it must know, refuse or claim an edit, or end it. A hook waits for as little as can be: it is in the
way of a person.

Rule: what a client says proves nothing; a session is joined by the process that called the hook, as the kernel tells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from cosession.errors import Claimed, CosessionError
from cosession.messages import claims as claiming
from cosession.messages.hooks import Hook, HookReply
from cosession.messages.sessions import Register
from cosession.model import Claim, Letter, Session
from cosessiond.claims.records import Held
from cosessiond.claims.targets import meet, read
from cosessiond.hooks.clients import Client
from cosessiond.hooks.event import Advice, Event
from cosessiond.mail.letters import Held as HeldLetter
from cosessiond.server import telling
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.sessions.admission import check_id, instance_for
from cosessiond.sessions.identity import ProcessRef
from cosessiond.sessions.procs import name_of

#: What stands between a client and its hook without being either.
SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox", "env", "timeout"})
#: How long a file stays claimed after its last edit.
EDIT_TTL_S: Final = 600.0
_CLEARED: Final = "clear"


class Hooked:
    """One event until it is answered."""

    def __init__(self, core: Core, call: Call, request: Hook, client: Client, event: Event) -> None:
        self._core = core
        self._call = call
        self._request = request
        self._client = client
        self._event = event

    def go(self) -> None:
        """Begin. Raises InvalidRequest, and what `Registry.register` raises."""
        id = self._event.session or self._only_session()
        if not id:
            self._answer(Advice(note="not checked: the event names no session"))
            return
        check_id(id, "session_id")
        known = self._core.registry.view.live(id)
        if known is not None and self._core.registry.may_act(self._call.ancestry(), id):
            self._core.activity(id)
            self._follow(known.session)
        elif self._event.kind == "end":
            self._answer(Advice())  # nobody is known whose end that would be
        elif self._request.facts:
            self._register(id)
        else:
            self._call.reply(HookReply(revision=self._core.store.revision, more=True))

    def _only_session(self) -> str:
        own = self._core.registry.sessions_of(self._call.ancestry)
        return next(iter(own)) if len(own) == 1 else ""

    def _register(self, id: str) -> None:
        event, request, core = self._event, self._request, self._core
        ancestry = self._call.ancestry()
        process = client_process(ancestry)
        wanted = Register(
            id=id,
            agent=self._client.agent,
            model=event.model,
            project=request.project,
            worktree=request.worktree,
            branch=request.branch,
            cwd=event.cwd,
            transcript=event.transcript,
            pid=process.pid if process else 0,
            replaces=self._replaced(id, process),
        )

        def done(outcome: Session | CosessionError) -> None:
            if isinstance(outcome, CosessionError):
                self._call.fail(outcome)
            else:
                self._follow(outcome)

        returns = event.kind in {"begin", "prompt"}  # a client may resume what it has ended; a late event does not
        core.registry.register(wanted, instance_for(wanted.pid, self._call.peer, ancestry), done, returns=returns)

    def _replaced(self, id: str, process: ProcessRef | None) -> str:
        """The session that this one takes the place of: the only other one of the same process, when the user cleared
        the conversation; its claims pass on.
        """
        if self._event.source != _CLEARED or process is None:
            return ""
        others = self._core.registry.sessions_of(lambda: (process,)) - {id}
        return next(iter(others)) if len(others) == 1 else ""

    def _follow(self, session: Session) -> None:
        """What follows from the event, for a session that is known."""
        kind = self._event.kind
        if kind == "begin":
            self._tell(session, telling.beginning(self._core, session, self._event))
        elif kind == "prompt":
            self._tell(session, telling.news(self._core, session))
        elif kind == "before" and self._event.paths and session.worktree:
            self._core.resolve(session.worktree, self._event.cwd or session.cwd, self._event.paths, self._edit(session))
        elif kind == "end":
            self._core.registry.close(session.id, self._event.why, lambda _: self._answer(Advice()))
        elif self._request.too_long:
            self._answer(Advice(note="not checked: the event is over 4 MiB"))
        else:
            self._answer(Advice())

    def _tell(self, session: Session, text: str) -> None:
        """Tell it, and give it the letters that it was never given."""
        core = self._core
        core.attention.told(session.id, core.store.revision)
        waiting = core.post.undelivered(session.id)[: telling.LETTERS_MAX]
        if not waiting:
            self._answer(Advice(context=text))
            return

        def given(outcome: list[HeldLetter] | CosessionError) -> None:
            found = [] if isinstance(outcome, CosessionError) else outcome  # they wait for the next event
            opened: list[Letter] = [letter for letter in map(core.post.open, found) if letter is not None]
            self._answer(Advice(context="\n".join(filter(None, (text, telling.letters(opened))))))

        core.post.hand_over(session.id, [each.id for each in waiting], given)

    def _edit(self, session: Session) -> Callable[[list[str]], None]:
        """Claim each file for the session, one after the other, until one is not to be had."""

        def resolved(targets: list[str]) -> None:
            left = [target for target in dict.fromkeys(targets) if target and not self._holds(session, target)]
            self._claim_next(session, left)

        return resolved

    def _claim_next(self, session: Session, left: list[str]) -> None:
        if not left:
            more = "not checked: the patch touches more files than one event may" if self._event.more_paths else ""
            self._answer(Advice(note=more))
            self._core.flush()
            return
        target = left.pop(0)
        wanted = Claim(
            id="",
            session=session.id,
            project=session.project,
            worktree=session.worktree,
            targets=(target,),
            purpose=f"edit by {self._client.agent}",
            automatic=True,
            ttl_s=EDIT_TTL_S,
            idle_hold_s=0.0,
        )
        try:
            self._core.referee.acquire(
                wanted, self._call.conversation, 0.0, partial(self._claimed, session, left, wanted)
            )
        except CosessionError as error:
            self._not_claimed(error, wanted)

    def _claimed(self, session: Session, left: list[str], wanted: Claim, outcome: Held | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            self._not_claimed(outcome, wanted)
        else:
            self._claim_next(session, left)

    def _not_claimed(self, error: CosessionError, wanted: Claim) -> None:
        """Refuse the edit of what somebody holds; for any other reason it goes on, unclaimed, and the user is told."""
        if not isinstance(error, Claimed):
            self._answer(Advice(note=f"this edit is not claimed: {error.message}"))
        else:
            asked = claiming.Acquire(project=wanted.project, targets=list(wanted.targets), session=wanted.session)
            self._call.conversation.denied(asked, error)
            words = error.message.removeprefix("cannot claim path:")
            self._answer(Advice(denial=f"cosession: cannot edit {words}"))
        self._core.flush()

    def _holds(self, session: Session, target: str) -> bool:
        """Whether a claim of its own covers the file already; an automatic one lasts from its last edit, so no."""
        view = self._core.referee.view
        mine = (held.claim for held in view.of_session(session.id) if held.claim.state == "held")
        wanted = read([target], session.worktree)
        return any(
            not claim.automatic and not claim.shared and meet(wanted, read(claim.targets, claim.worktree))
            for claim in mine
        )

    def _answer(self, advice: Advice) -> None:
        output = self._client.render(self._event, advice)
        self._call.reply(HookReply(revision=self._core.store.revision, output=output))


def client_process(ancestry: tuple[ProcessRef, ...], called: Callable[[int], str] = name_of) -> ProcessRef | None:
    """The process whose life is the session's: the first above the hook that is no shell; None when there is none."""
    return next((each for each in ancestry[1:] if called(each.pid) not in SHELLS), None)
