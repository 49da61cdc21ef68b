"""The keeper of checkpoints: what everything above them calls. Save, find, judge, and follow what is durable.

Of a session the newest ten are kept; the oldest leaves with the batch that adds one, and so does, when all together
are too many, what is oldest and not the last of its session. A damaged one is told, and moved aside by a batch of its
own. When the record of a session goes, what it saved goes too.

Rule: every decision is made from durable memory under compares, so two who save at once make one chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from cosession.errors import CosessionError, TooLarge
from cosession.messages.limits import (
    CHECKPOINT_BYTES_MAX,
    CHECKPOINTS_BYTES_MAX,
    CHECKPOINTS_KEPT,
    CHECKPOINTS_MAX,
    CHECKPOINTS_QUARANTINED_MAX,
)
from cosession.model import GLOBAL, Checkpoint, ClaimFact, GitFacts
from cosessiond.checkpoints import records
from cosessiond.checkpoints.content import Content
from cosessiond.checkpoints.counting import Counting
from cosessiond.checkpoints.ports import Author, Proposed, Sessions, Store
from cosessiond.checkpoints.records import QUARANTINE, SPACE, Seen
from cosessiond.checkpoints.shelf import Shelf
from cosessiond.checkpoints.standing import Judged, judged
from cosessiond.clock import Clock, Entropy, ulid
from cosessiond.store.engine import Batch, Committed, Compare, Delete, EntryCompare, Origin, Put, RangeCompare, Write

_SESSIONS: Final = "$sessions"
#: So many others leave with one batch, when all together are too many.
SURPLUS_MAX: Final = 32

Saved = Callable[[Committed | CosessionError], None]


class Draft(Struct, frozen=True, kw_only=True):
    """A checkpoint before it has its place in the chain."""

    session: str
    content: Content
    git: GitFacts | None
    claims: tuple[ClaimFact, ...]
    automatic: bool
    redacted: int


class Bounds(Struct, frozen=True, kw_only=True):
    """The counts of the keeper; tests lower them."""

    kept: int = CHECKPOINTS_KEPT
    all: int = CHECKPOINTS_MAX
    bytes: int = CHECKPOINTS_BYTES_MAX
    quarantined: int = CHECKPOINTS_QUARANTINED_MAX


class Keeper:
    """All checkpoints of this daemon. `on_damage` is told what is wrong with one that is damaged."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        entropy: Entropy,
        sessions: Sessions,
        on_damage: Callable[[str], None],
        bounds: Bounds | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._sessions = sessions
        self._on_damage = on_damage
        self._bounds = bounds or Bounds()
        self._dropping: set[str] = set()
        self.shelf = Shelf()
        self.counting = Counting()

    def load(self) -> None:
        """Take in what is kept; nothing is written yet, so that verdicts can be founded on it."""
        found = sorted(self._store.scan(SPACE, GLOBAL, ""), key=lambda entry: entry.mod_revision)
        for entry in found:
            self.shelf.put(entry)

    def start(self) -> None:
        """See to what a daemon before this one left; `published` must be a listener by then, and the sessions known."""
        for seen in [each for each in self.shelf if not each.is_valid]:
            self._set_aside(seen)
        for session in self.shelf.sessions():
            if not self._sessions.is_known(session):
                self._drop(session)

    # The operations.

    def save(self, draft: Draft, origin: Origin, done: Saved) -> None:
        """Keep a checkpoint of a live session; `done` gets the commit, or that of the first time when it is a repeat.

        Answers TooLarge, store_full, not_found and session_ended.
        """
        id = f"{draft.session}/{ulid(self._clock, self._entropy)}"

        def decide() -> Batch:
            author = self._sessions.author(draft.session)
            checkpoint, value = records.sealed(self._placed(id, draft, author))
            if len(value) > CHECKPOINT_BYTES_MAX:
                raise TooLarge(
                    f"cannot save a checkpoint of {len(value)} bytes: the limit is {CHECKPOINT_BYTES_MAX}; "
                    "keep what the next step needs, and put the rest into the context",
                    data={"size": len(value), "limit": CHECKPOINT_BYTES_MAX},
                )
            in_line = RangeCompare(SPACE, GLOBAL, records.prefix_of(draft.session), self._store.revision)
            leaving = self._leaving(draft.session, len(value))
            writes: list[Write] = [
                Put(records.entry_id(id), value),
                Put(records.head_id(draft.session), records.head_of(checkpoint)),
                *(Delete(records.entry_id(each.id)) for each in leaving),
            ]
            return self._store.batch(origin, (author.guard, in_line), writes)

        def finished(outcome: Proposed) -> None:
            assert outcome is not None, "there is always something to write"
            done(outcome)

        self._store.propose(decide, finished)

    def judge(self, session: str, inherited: str = "") -> Judged:
        """What the checkpoints of a session are worth; one that has saved none goes by the one it took over."""
        kept, head = self.shelf.of(session), self.shelf.head(session)
        if kept or head is not None or not inherited:
            return judged(kept, head)
        source = records.session_in(inherited)
        found = judged(self.shelf.of(source), self.shelf.head(source))
        line = f"{session} has saved none yet and took over {inherited}"
        if found.chosen is not None and found.chosen.id == inherited:
            return Judged(found.standing, found.chosen, (line, *found.evidence))
        seen = self.shelf.get(inherited)
        if seen is None or not seen.is_valid:
            why = "which is missing" if seen is None else "which is damaged"
            return Judged("UNKNOWN", None, (f"{line}, {why}",))
        return Judged("VERIFIED", seen, (line,))

    def content(self, id: str) -> Checkpoint:
        """The checkpoint with this id. Raises not_found, and damaged for one that is not what was saved."""
        seen = self.shelf.get(id)
        entry = self._store.get(records.entry_id(id)) if seen is not None else None
        if seen is None or entry is None:
            shown = id[:128]
            why = f"cannot find checkpoint {shown!r}: none is kept with that id; see `cosession checkpoint list`"
            raise CosessionError(why, code="not_found", data={"checkpoint": shown})
        checkpoint = records.read(entry)
        if checkpoint is None:
            why = f"cannot show checkpoint {id}: {seen.summary.damaged or 'it cannot be read'}; take the one before"
            raise CosessionError(why, code="damaged", data={"checkpoint": id})
        return checkpoint

    # Following what is durable.

    def published(self, committed: Committed) -> None:
        """A listener of the store: the shelf follows what is durable, and so do those whose sessions are no more."""
        for change in committed.changes:
            if change.id[0] == _SESSIONS and change.kind != "put":
                self.counting.begin_anew(change.id[2])
                self._drop(change.id[2])
            elif change.id[:2] == (SPACE, GLOBAL):
                self._follow(change.id[2])

    def _follow(self, key: str) -> None:
        entry = self._store.get((SPACE, GLOBAL, key))
        if entry is None:
            self.shelf.remove(key)
            return
        seen = self.shelf.put(entry)
        if seen is None:
            return
        self.counting.begin_anew(seen.summary.session)
        if not seen.is_valid:
            self._set_aside(seen)

    # Deciding.

    def _placed(self, id: str, draft: Draft, author: Author) -> Checkpoint:
        """The checkpoint at the end of its chain, as that stands now."""
        head, kept = self.shelf.head(draft.session), self.shelf.of(draft.session)
        if head is not None:
            parent, parent_hash, number = head.newest, head.hash, head.number + 1
        elif kept:
            last = kept[-1].summary
            parent, parent_hash, number = last.id, last.hash, last.number + 1
        else:
            inherited = self.shelf.get(author.inherited)
            parent, number = author.inherited, 1
            parent_hash = inherited.summary.hash if inherited is not None else ""
        said = draft.content
        return Checkpoint(
            id=id,
            session=draft.session,
            project=author.project,
            number=number,
            parent=parent,
            parent_hash=parent_hash,
            time=self._clock.wall_ms() / 1000.0,
            automatic=draft.automatic,
            redacted=draft.redacted,
            task=said.task,
            done=said.done,
            pending=said.pending,
            next_step=said.next_step,
            decisions=said.decisions,
            failed=said.failed,
            files=said.files,
            extra=said.extra,
            git=draft.git,
            claims=draft.claims,
        )

    def _leaving(self, session: str, size: int) -> list[Seen]:
        """What goes when one more of this size comes: of the session what is beyond those kept, then of all what is
        oldest, first what is not the last of its session, then the last of those that ended. Raises store_full.
        """
        bounds = self._bounds
        mine = self.shelf.of(session)
        leaving = mine[: max(0, len(mine) + 1 - bounds.kept)]
        count = len(self.shelf) + 1 - len(leaving)
        total = self.shelf.bytes + size - sum(each.summary.size_bytes for each in leaving)
        if count <= bounds.all and total <= bounds.bytes:
            return leaving
        gone = {each.id for each in leaving}
        for each in self._surplus(session):
            if each.id in gone:
                continue
            if (count <= bounds.all and total <= bounds.bytes) or len(leaving) >= SURPLUS_MAX:
                break
            leaving.append(each)
            count -= 1
            total -= each.summary.size_bytes
        if count > bounds.all or total > bounds.bytes:
            raise CosessionError(
                f"cannot save a checkpoint: {len(self.shelf)} of them take {self.shelf.bytes} bytes, and the last one "
                "of a live session is never dropped; close sessions, or save less",
                code="store_full",
                data={"limit": bounds.bytes},
            )
        return leaving

    def _surplus(self, session: str) -> list[Seen]:
        """All that may go, in the order in which it may."""
        last = {each: self.shelf.newest(each) for each in self.shelf.sessions()}
        others = [each for each in self.shelf if each.id != last[each.summary.session]]
        ended = [
            each
            for each in self.shelf
            if each.id == last[each.summary.session]
            and each.summary.session != session
            and not self._sessions.is_live(each.summary.session)
        ]
        return others + ended

    # Carrying out.

    def _set_aside(self, seen: Seen) -> None:
        """Tell of a damaged one, and keep it where nobody takes it for a checkpoint."""
        self._on_damage(f"checkpoint {seen.id}: {seen.summary.damaged}")
        id = records.entry_id(seen.id)

        def decide() -> Batch | None:
            entry = self._store.get(id)
            if entry is None or records.seen(entry).is_valid:
                return None
            there = sorted(self._store.scan(SPACE, QUARANTINE, ""), key=lambda each: each.mod_revision)
            surplus = [each for each in there if each.id[2] != seen.id][
                : max(0, len(there) + 1 - self._bounds.quarantined)
            ]
            compares: list[Compare] = [EntryCompare(id, "mod_revision", entry.mod_revision)]
            writes: list[Write] = [Delete(id), Put((SPACE, QUARANTINE, seen.id), entry.value)]
            writes += [Delete(each.id) for each in surplus]
            return self._store.batch(self._store.origin("checkpoint.quarantine"), compares, writes)

        self._store.propose(decide, lambda _: None)  # what cannot be moved now is met again by the next start

    def _drop(self, session: str) -> None:
        """The record of a session is gone: nobody can ask for what it saved."""
        if session in self._dropping or (not self.shelf.of(session) and self.shelf.head(session) is None):
            return
        self._dropping.add(session)

        def decide() -> Batch | None:
            if self._sessions.is_known(session):
                return None
            ids = [records.entry_id(each.id) for each in self.shelf.of(session)]
            if self.shelf.head(session) is not None:
                ids.append(records.head_id(session))
            writes = [Delete(id) for id in ids]
            return self._store.batch(self._store.origin("checkpoint.drop"), (), writes) if writes else None

        def finished(_: Proposed) -> None:
            self._dropping.discard(session)

        self._store.propose(decide, finished)


def saved_in(outcome: Committed) -> str:
    """The id of the checkpoint that a batch saved."""
    return next(
        change.id[2] for change in outcome.changes if change.kind == "put" and not records.is_head(change.id[2])
    )
