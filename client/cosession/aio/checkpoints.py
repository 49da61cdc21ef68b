"""Checkpoints of a session of this program: saved by hand, or by itself after so many events.

Rule: what is on the file system is looked at here, beside the loop and within a deadline; the daemon looks at no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cosession import gitfacts
from cosession.exchange.verbs import encoded
from cosession.messages.checkpoints import Get, GetReply, List, Save
from cosession.messages.sessions import Heartbeat
from cosession.model import CheckpointSummary, GitFacts
from cosession.project import worktree_of

from .io import beside
from .mail import Correspondent

State = Mapping[str, Any]


class Saving(Correspondent):
    """`Correspondent`, and the verbs of checkpoints; see `Session`."""

    session_token: str
    _directory = "."
    _checkpoint_every = 25

    def looks_at(self, directory: str, checkpoint_every: int) -> None:
        """It works in `directory`; a checkpoint is due after `checkpoint_every` events. The client says so itself."""
        self._directory = directory
        self._checkpoint_every = checkpoint_every

    async def checkpoint(
        self,
        state: State,
        *,
        git: bool = True,
        automatic: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CheckpointSummary:
        """Save what this session has done and is about to do, so that another can go on from it.

        `state` has any of `task`, `done`, `pending`, `next_step`, `decisions`, `failed` and `files`; whatever else is
        in it is kept as well. Files named by a path get their hashes, and with `git` it is noted where the worktree of
        the session stands. What looks like a known secret is replaced. Of each session the newest ten are kept.

        `automatic` marks one that nobody asked for; `request_id` and `timeout_s` as for all writes.

        Raises TooLarge over 256 KiB, CosessionError `session_ended`, and what all writes may raise, see `Client`.

            async with client.session(agent="example", name="wren", heartbeat_s=0) as session:
                saved = await session.checkpoint({"task": "parser", "next_step": "errors"}, git=False)
                (saved.number, saved.task)  # -> (1, 'parser')
        """
        looked, facts = await beside(_looked_at, dict(state), self._directory, git)
        request = Save(state=encoded(looked), git=facts, automatic=automatic, session=self.id, request_id=request_id)
        reply = await self.client.call(request, timeout_s=timeout_s)
        return reply.checkpoint

    async def checkpoints(self, *, limit: int = 200, timeout_s: float | None = None) -> list[CheckpointSummary]:
        """The checkpoints of this session, newest first, at most `limit`; `timeout_s` as for all calls."""
        reply = await self.client.call(List(session=self.id, limit=limit), timeout_s=timeout_s)
        return reply.checkpoints

    async def last_checkpoint(self, *, timeout_s: float | None = None) -> GetReply:
        """The newest checkpoint that is whole, or the one it took over, and what it is worth (`standing`);
        `timeout_s` as for all calls.
        """
        return await self.client.call(Get(checkpoint=self.id), timeout_s=timeout_s)

    async def event(
        self, state: State | Callable[[], State] | None = None, *, timeout_s: float | None = None
    ) -> CheckpointSummary | None:
        """Count one event, a tool that was used, say; a sign of life. After `auto_checkpoint_every` of them since the
        last checkpoint `state` is saved, or what it returns, and the checkpoint is the answer; `timeout_s`
        as for all calls.
        """
        beat = Heartbeat(
            session=self.id, session_token=self.session_token, events=1, checkpoint_every=self._checkpoint_every
        )
        reply = await self.client.call(beat, timeout_s=timeout_s)
        if not reply.checkpoint_due or state is None:
            return None
        return await self.checkpoint(state() if callable(state) else state, automatic=True, timeout_s=timeout_s)


def _looked_at(state: dict[str, Any], directory: str, with_git: object) -> tuple[dict[str, Any], GitFacts | None]:
    """The state with the hashes of its files, and where the worktree stands."""
    files = state.get("files")
    if isinstance(files, list) and all(isinstance(each, str) for each in files):
        state["files"] = gitfacts.hashes(worktree_of(directory) or directory, files)
    found = gitfacts.collect(directory) if with_git else {}
    return state, msgspec.convert(found, GitFacts) if found else None
