"""Which backup is made when: on demand, before what cannot be undone, every so many minutes with changes, at the end.

One is made at a time. Who asks while one is being copied is answered with it, since what was committed by then is in
it; who asks later, when it is being proved, is answered with it only if nothing was committed since, else with the
next.

Rule: an idle daemon has nothing to do here: the timer is armed by the first change after a backup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct, structs

from cosession.config import BackupConfig, Config
from cosession.errors import CosessionError, Overloaded
from cosession.messages.limits import BACKUP_WORKS_KEPT
from cosessiond.audit.journal import Journal
from cosessiond.audit.records import Caller
from cosessiond.backups.making import Making
from cosessiond.backups.rotation import Keep
from cosessiond.backups.vault import Outcome, Vault
from cosessiond.clock import Clock
from cosessiond.metrics import Metrics
from cosessiond.process.configuration import Configuration
from cosessiond.store.backup import Found, Reason
from cosessiond.store.engine import EntryId
from cosessiond.store.leases import Deadlines
from cosessiond.store.revisions import Store

#: No scheduled backup so soon after a start: there is enough to do.
START_S: Final = 30.0
#: One that failed is tried again after so long, when it would not be due sooner.
RETRY_S: Final = 600.0

Done = Callable[[Outcome | CosessionError], None]


class Work(Struct):
    """A backup that was asked for or a verification, from its beginning to its outcome.

    `number` counts them within this life of the daemon. `result` is None while it goes on.
    """

    number: int
    kind: Literal["make", "verify"]
    name: str = ""
    phase: str = "waiting"
    done_bytes: int = 0
    total_bytes: int = 0
    result: Outcome | CosessionError | None = None


class Backups:
    """All of a daemon's backups. Without a vault there are none: the store is kept in memory."""

    def __init__(
        self,
        store: Store,
        vault: Vault | None,
        deadlines: Deadlines,
        clock: Clock,
        *,
        metrics: Metrics,
        journal: Journal,
        configuration: Configuration,
    ) -> None:
        self.found: list[Found] = []
        self.error = ""  # why the last one failed, "" when it did not
        self.works: dict[int, Work] = {}
        self.on_end: Callable[[], None] = lambda: None
        self._store = store
        self._vault = vault
        self._deadlines = deadlines
        self._clock = clock
        self._metrics = metrics
        self._journal = journal
        self._config: BackupConfig = configuration.in_force.backup
        configuration.listeners.append(self._configure)
        self._making: Making | None = None
        self._joined: list[Done] = []  # of the one that is being made
        self._next: list[Done] = []  # of the one after it
        self._next_reason: Reason = "demand"
        self._held = 0
        self._verifying: Work | None = None
        self._armed = False
        self._ended = False
        self._due_s = 0.0  # no scheduled one before

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> Found | None:
        """The newest that can be restored."""
        return next((each for each in reversed(self.found) if each.state == "valid"), None)

    @property
    def making(self) -> Making | None:
        """The one that is being made."""
        return self._making

    @property
    def directory(self) -> str:
        """Where they lie, "" when nowhere."""
        return str(self._vault.directory.path) if self._vault else ""

    def holds(self, revision: int) -> bool:
        """Whether a valid backup has all up to this revision."""
        newest = self.newest.manifest if self.newest else None
        return newest is not None and newest.epoch == self._store.epoch and newest.revision >= revision

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """See what is there, and when the next is due."""
        if self._vault is None:
            return
        self.found = self._vault.open()
        self._due_s = self._clock.monotonic() + max(START_S, self._every_s - self._age_s())
        self._store.listeners.append(lambda _: self._arm())
        self._arm()

    def stop(self, done: Callable[[], None]) -> None:
        """Make the last one, if there is anything new in the store; `done` when that is over, also if it failed."""
        self._ended = True
        self._deadlines.cancel("backup")
        is_idle = not self._config.every_min or self._held or self._store.read_only  # a disk that fails is left alone
        if self._vault is None or is_idle or self.holds(self._store.revision):
            done()
        else:
            self.make("shutdown", lambda _: done())

    def give_up(self) -> None:
        """There is no time left."""
        late = CosessionError("cannot back up: the daemon is shutting down; the next one does it", code="shutting_down")
        if self._making is not None:
            self._making.give_up(late)

    # -- asking for one -----------------------------------------------------------------------------------------------

    def make(self, reason: Reason, done: Done) -> None:
        """Have a backup of the store as it is now or later; `done` once it is there, or why it is not."""
        if self._vault is None:
            done(CosessionError("cannot back up: this store is kept in memory alone", code="not_allowed"))
        elif self._making is None and not self._held:
            self._joined.append(done)
            self._begin(self._vault, reason)
        elif self._making is not None and (
            self._making.phase == "copying" or self._making.revision == self._store.revision
        ):
            self._joined.append(done)
        else:
            self._next.append(done)
            self._next_reason = reason

    def before(self, reason: Reason, revision: int, done: Done) -> None:
        """Have one before something that cannot be undone; one that has all up to `revision` will do."""
        if self._vault is None or self.holds(revision):
            done(Outcome(self.found, self.newest.name if self.newest else ""))
        else:
            self.make(reason, done)

    def ask(self, reason: Reason, caller: Caller) -> Work:
        """The same for somebody who comes back for the outcome by its number."""
        work = self._work("make")

        def ended(outcome: Outcome | CosessionError) -> None:
            if isinstance(outcome, Outcome):
                self._journal.acted("backup.now", caller=caller, subject=outcome.name)
            self._finish(work, outcome)

        self.make(reason, ended)
        return work

    def verify(self, name: str, caller: Caller) -> Work:
        """Have a backup read from end to end. Raises Overloaded while another is."""
        if self._vault is None or name not in {each.name for each in self.found}:
            raise CosessionError(
                f"cannot verify {name[:80]!r}: there is no such backup; see: cosession backup list", code="not_found"
            )
        if self._verifying is not None:
            raise Overloaded(
                f"cannot verify {name}: {self._verifying.name} is being verified; try again when it is done"
            )
        work = self._verifying = self._work("verify", name)
        work.phase = "proving"

        def tell(done: int, total: int) -> None:
            work.done_bytes, work.total_bytes = done, total

        def ended(outcome: Outcome | CosessionError) -> None:
            self._verifying = None
            if isinstance(outcome, Outcome):
                self.found = outcome.found
                said = "damaged" if outcome.wrong else "ok"
                self._metrics.count("backup.damaged" if outcome.wrong else "backup.verified")
                self._journal.acted("backup.verify", caller=caller, outcome=said, subject=name)
            self._finish(work, outcome)

        self._vault.verify(name, tell, ended)
        return work

    # -- purging ------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Until `release` none is begun, and one that is being copied is begun anew then: values are taken out now, and
        no copy shall have the traces of that.
        """
        self._held += 1
        if self._making is not None and self._making.phase == "copying":
            self._next, self._joined = [*self._joined, *self._next], []
            self._next_reason = self._making.reason
            self._making.give_up(CosessionError("cannot go on: a purge is under way", code="overloaded"))

    def release(self) -> None:
        """The purge is over."""
        self._held -= 1
        self._go_on()

    def forget(self, id: EntryId, before: int, done: Callable[[list[str], list[str]], None]) -> None:
        """Have a backup without the purged values of `id`, and drop those with them. `done` is told which were dropped,
        and which may still hold one, because they could not be dropped or there is none to stand in for them.
        """
        vault = self._vault
        if vault is None:
            done([], [])
            return

        def made(outcome: Outcome | CosessionError) -> None:
            spared = outcome.name if isinstance(outcome, Outcome) else ""
            vault.forget(id, before, spared=spared, done=looked)

        def looked(outcome: Outcome | CosessionError) -> None:
            if isinstance(outcome, Outcome):
                self.found = outcome.found
                self._dropped(outcome.dropped)
                done(outcome.dropped, outcome.left)
            else:
                done([], [each.name for each in self.found])

        self.make("purge", made)

    # -- the one that is made -----------------------------------------------------------------------------------------

    def _begin(self, vault: Vault, reason: Reason) -> None:
        keep = self._config
        self._deadlines.cancel("backup")
        self._armed = False
        self._making = Making(
            self._store,
            vault,
            self._deadlines,
            reason=reason,
            time_ms=self._clock.wall_ms(),
            kept=Keep(
                last=keep.keep_last,
                hourly=keep.keep_hourly,
                daily=keep.keep_daily,
                weekly=keep.keep_weekly,
                bytes_max=keep.bytes_max,
            ),
            ended=self._made,
        )
        try:
            self._making.begin()
        except CosessionError as error:
            self._made(error)

    def _made(self, outcome: Outcome | CosessionError) -> None:
        assert self._making is not None, "it has ended"
        reason, self._making = self._making.reason, None
        joined, self._joined = self._joined, []
        wait_s = self._every_s
        if isinstance(outcome, Outcome):
            self.found, self.error = outcome.found, ""
            self._metrics.count("backup.made")
            self._journal.acted("backup", subject=outcome.name)
            self._dropped(outcome.dropped)
        elif outcome.code != "shutting_down" and not self._held:
            self.error = outcome.message
            self._metrics.count("backup.failed")
            self._journal.acted("backup", outcome=outcome.code, subject=reason)
            wait_s = min(wait_s, RETRY_S)
        self._due_s = self._clock.monotonic() + wait_s
        for done in joined:
            done(outcome)
        self._go_on()
        self._arm()

    def _go_on(self) -> None:
        """The next, if somebody waits for it."""
        if self._next and self._making is None and not self._held and self._vault is not None:
            self._joined, self._next = self._next, []
            self._begin(self._vault, self._next_reason)

    def _dropped(self, names: list[str]) -> None:
        for name in names:
            self._metrics.count("backup.dropped")
            self._journal.acted("backup.drop", subject=name)

    # -- the schedule -------------------------------------------------------------------------------------------------

    @property
    def _every_s(self) -> float:
        return 60.0 * self._config.every_min

    def _age_s(self) -> float:
        """Of the newest, by the wall clock, which may step; as old as can be when there is none."""
        newest = self.newest
        if newest is None or newest.manifest is None:
            return self._every_s
        return max(0.0, (self._clock.wall_ms() - newest.manifest.time_ms) / 1000)

    def _arm(self) -> None:
        """Called with each change, so cheap while there is nothing to do."""
        if self._armed or self._ended or self._making or not self._config.every_min or self._store.read_only:
            return
        if not self.holds(self._store.revision) and self._store.revision:
            self._armed = True
            self._deadlines.set("backup", self._due_s, self._due)

    def _due(self) -> None:
        self._armed = False
        if not self.holds(self._store.revision):
            self.make("scheduled", lambda _: None)

    def _configure(self, config: Config) -> None:
        if config.backup == self._config:
            return
        before_s, self._config = self._every_s, config.backup
        self._due_s += self._every_s - before_s
        self._deadlines.cancel("backup")
        self._armed = False
        self._arm()

    # -- works --------------------------------------------------------------------------------------------------------

    def progress(self, work: Work) -> Work:
        """A work with how far it is now."""
        making = self._making
        if work.kind == "make" and work.result is None and making is not None:
            return structs.replace(
                work, phase=making.phase, done_bytes=making.done_bytes, total_bytes=making.total_bytes
            )
        return work

    def _work(self, kind: Literal["make", "verify"], name: str = "") -> Work:
        number = max(self.works, default=0) + 1
        over = [each.number for each in self.works.values() if each.result is not None]
        for old in over[: max(0, len(over) - BACKUP_WORKS_KEPT)]:
            del self.works[old]
        work = self.works[number] = Work(number, kind, name)
        return work

    def _finish(self, work: Work, outcome: Outcome | CosessionError) -> None:
        work.phase, work.result = "over", outcome
        if isinstance(outcome, Outcome):
            work.name = outcome.name
        self.on_end()
