"""The verbs of checkpoints: save, list, get.

Rule: what is on the file system is looked at by the client; the daemon takes git facts and hashes as they are told.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Raw

from cosession.messages.base import Reply, Request
from cosession.model import Checkpoint, CheckpointSummary, GitFacts, Standing


class SaveReply(Reply, frozen=True, kw_only=True):
    """The checkpoint as it is kept, without its content."""

    checkpoint: CheckpointSummary


class Save(Request[SaveReply], frozen=True, kw_only=True):
    """Keep the working state of the session the caller acts for; of each session the newest ten stay.

    `state` is an object with any of `task`, `done`, `pending`, `next_step`, `decisions`, `failed` and `files`, see
    `Checkpoint`; where a list of texts is wanted one text will do, and so will a text for a decision. Other members are
    kept as `extra`. What looks like a secret is replaced. The daemon adds the claims that the session holds.

    With a `request_id` a repeat is answered with the checkpoint of the first time. Errors: not_allowed (nobody has no
    state), session_ended, too_large, store_full, disk_full.
    """

    method: ClassVar[str] = "checkpoint.save"
    state: Raw
    git: GitFacts | None = None
    automatic: bool = False
    session: str = ""
    request_id: str = ""


class ListReply(Reply, frozen=True, kw_only=True):
    """Newest first; `more` says that older ones did not fit."""

    checkpoints: list[CheckpointSummary] = []
    more: bool = False


class List(Request[ListReply], frozen=True, kw_only=True):
    """The checkpoints of one `session` (an id, or a name that exactly one session has), or of all in a `project`, or of
    all.
    """

    method: ClassVar[str] = "checkpoint.list"
    session: str = ""
    project: str = ""
    limit: int = 200


class GetReply(Reply, frozen=True, kw_only=True):
    """`standing` says what the `checkpoint` is worth, `evidence` why; with UNKNOWN there may be none."""

    checkpoint: Checkpoint | None
    standing: Standing
    evidence: list[str] = []


class Get(Request[GetReply], frozen=True, kw_only=True):
    """One checkpoint: `checkpoint` is its id, or the id or name of a session, whose newest valid one is meant.

    Errors: not_found; damaged, for one named by its id that is not what was saved.
    """

    method: ClassVar[str] = "checkpoint.get"
    checkpoint: str
