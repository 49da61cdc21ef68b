"""The writes that rest on a read: `update`, and a put that is merged with what others wrote meanwhile.

What comes after a conflict is decided in `cosession.rounds`, here it is done: at once, with a turn, or after a wait.

Rule: one deadline over all of it, see `series`; nothing is written but by compare-and-swap on what was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, Literal

from cosession.differences import ABSENT
from cosession.errors import Compacted, Conflict, CosessionError
from cosession.exchange.merging import Merging, check_merge, without_base
from cosession.exchange.verbs import encoded
from cosession.messages.turns import Turn, TurnReply
from cosession.model import Entry
from cosession.rounds import GIVE_UP, READ, TURN, Rounds, goes_without, turn_wait_s

from .io import now, pause
from .series import Series, left_s

#: How long it may take to give back a turn that is not used; then its time is over anyway.
GIVE_BACK_S: Final = 1.0


class Contended(Series):
    """`Series`, and the writes that rest on a read."""

    async def put(
        self,
        key: str,
        value: Any,
        *,
        expect_revision: int | None = None,
        merge: Literal["", "three-way"] = "",
        ttl_s: float = 0.0,
        ephemeral: bool = False,
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Write JSON data under `key`; returns the entry with the `value` as given, or as merged. Tuples are lists;
        sets, dates, Decimals and other objects are refused.

        Raises Conflict, whose `current` is the entry that stands, when `expect_revision` does not. `merge="three-way"`:
        what others changed since that revision is kept, and what you changed is added, where these are different
        members of dicts; else Conflict, whose `paths` are JSON pointers (RFC 6901) to what both changed. `ttl_s`: it
        expires so many seconds after its last put; `ephemeral`: it ends with its session; at most one of the two.
        Without either it stays. `request_id` does not go together with `merge`.

            entry = await client.put("plan/next", {"step": 1}, expect_revision=0)
            entry = await client.put("plan/next", {"step": 2}, expect_revision=entry.mod_revision)
            (entry.value, entry.version)  # -> ({'step': 2}, 2)
        """
        deadline = self._deadline(timeout_s)
        if merge:
            check_merge(merge, expect_revision, request_id)
        try:
            return await super().put(
                key,
                value,
                expect_revision=expect_revision,
                ttl_s=ttl_s,
                ephemeral=ephemeral,
                session=session,
                fence=fence,
                request_id=request_id,
                project=project,
                space=space,
                timeout_s=timeout_s,
            )
        except Conflict as conflict:
            if not merge or expect_revision is None:
                raise
            met = conflict
        how = self._how(ttl_s=ttl_s, ephemeral=ephemeral, session=session, fence=fence, project=project, space=space)
        base = await self._base(key, expect_revision, met, deadline, how)
        return await self._in_rounds(key, Merging(key, base, value).over, met, deadline, how)

    async def update(
        self,
        key: str,
        fn: Callable[[Any], Any],
        *,
        ttl_s: float = 0.0,
        ephemeral: bool = False,
        session: str = "",
        fence: int = 0,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Read, apply `fn` to the value (None when absent), write if nobody wrote in between; else again.

        The first retry comes at once, from the entry that the conflict brought. Who meets another conflict takes turns
        with others that update this `key`, in the order of asking, and begins with that for a while. Conflict is raised
        when the time is over, or when somebody wrote without a turn 16 times in a row; where the daemon gives no turns,
        after three more tries. `fn` may run several times and must not call this client; the time it takes counts, and
        a turn lasts 1 s. As with `put`, an entry updated without `ttl_s` or `ephemeral` loses its lease.

            entry = await client.update("builds", lambda value: (value or 0) + 1)
            entry.value  # -> 1
        """
        how = self._how(ttl_s=ttl_s, ephemeral=ephemeral, session=session, fence=fence, project=project, space=space)

        def changed(entry: Entry | None) -> Any:
            return fn(entry.value if entry else None)

        return await self._in_rounds(key, changed, None, self._deadline(timeout_s), how)

    async def _in_rounds(
        self,
        key: str,
        changed: Callable[[Entry | None], Any],
        met: Conflict | None,
        deadline: float,
        how: dict[str, Any],
    ) -> Entry:
        """Write what `changed` makes of the entry, until it succeeds. `met`: the conflict that has been met already."""
        contention = self._common.contention
        place: dict[str, Any] = {"project": how["project"], "space": how["space"]}
        known = (how["space"], how["project"], key)
        rounds = Rounds(self._common.jitter, contended=known in contention)
        step, wait_s = rounds.conflict() if met else rounds.begin()
        entry = met.current if met else None
        while True:
            if met and (step == GIVE_UP or now() + wait_s >= deadline):
                raise met
            if wait_s:
                await pause(wait_s)
            turn = None
            if step == TURN:
                turn = await self._turn(key, known, deadline, place)
                if turn is None:
                    step, wait_s = rounds.refused()
                    continue
                entry = turn.entry
            if step == READ or (turn and not turn.granted):
                entry = await self.get(key, timeout_s=left_s(deadline), **place)
            try:
                value = changed(entry)
                encoded(value)  # what is no JSON data is never sent, and would end no turn
            except Exception:
                if turn and turn.granted:
                    await self._give_back(key, place)
                raise
            try:
                expect = entry.mod_revision if entry else 0
                return await super().put(key, value, expect_revision=expect, timeout_s=left_s(deadline), **how)
            except Conflict as conflict:
                met = conflict
            contention.met(known)
            entry = met.current
            step, wait_s = rounds.conflict()

    async def _turn(
        self, key: str, known: tuple[str, str, str], deadline: float, place: dict[str, Any]
    ) -> TurnReply | None:
        """The answer to the question for a turn, None when it was refused."""
        rest_s = left_s(deadline)
        try:
            reply = await self.call(Turn(key=key, wait_s=turn_wait_s(rest_s), **place), timeout_s=rest_s)
        except CosessionError as error:
            if not goes_without(error):
                raise
            return None
        if reply.granted:
            self._common.contention.turn_given(known, waited=reply.waited, behind=reply.behind)
        return reply

    async def _give_back(self, key: str, place: dict[str, Any]) -> None:
        """End a turn in which nothing is written, so that nobody waits for its time to be over."""
        with contextlib.suppress(CosessionError):
            await self.call(Turn(key=key, give_back=True, **place), timeout_s=GIVE_BACK_S)

    async def _base(self, key: str, revision: int, met: Conflict, deadline: float, how: dict[str, Any]) -> Any:
        """The value that a merge began from; raises Conflict when it is no longer kept."""
        if not revision:
            return ABSENT
        try:
            return await self._value_at(key, revision, deadline, {"project": how["project"], "space": how["space"]})
        except Compacted:
            raise without_base(key, revision, met) from None

    def _how(self, *, project: str | None, **names: Any) -> dict[str, Any]:
        """The arguments that all the puts of one write share."""
        return {**names, "project": self._project(project)}
