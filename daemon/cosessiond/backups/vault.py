"""Where backups lie, and what is done there beside the loop: one is proved and published, others go, one is verified.

Rule: each piece of work has a thread of its own, which owns nothing else and tells the loop once, by `deliver`; what it
could not do is a CosessionError, never an exception.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct, structs

from cosession.errors import ConfigError, CosessionError
from cosessiond.backups.prover import Prover
from cosessiond.backups.rotation import Keep, keep
from cosessiond.store.backup import BackupDirectory, Found, Reason
from cosessiond.store.engine import Copy, CopyFailed, EntryId, Position, StoreBroken
from cosessiond.store.holding import may_hold
from cosessiond.store.proving import compare, describe
from cosessiond.store.verifying import Tell

#: What must stay free beside a copy, of a small disk a quarter: a backup is no reason to refuse writes.
SPARE_BYTES: Final = 64 * 1024 * 1024
#: `bytes_max` 0 means so many times the newest backup, and not less than this.
STORES_KEPT: Final = 4
KEPT_BYTES_MIN: Final = 256 * 1024 * 1024
#: How long the end of the daemon waits for each that is under way; the process that proves is killed and ends at once.
CLOSE_S: Final = 1.0
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

T = TypeVar("T")


class Copied(Struct, frozen=True):
    """A whole copy under its partial name, and what it must hold: the store as it stood at its last step."""

    copy: Copy
    partial: str
    position: Position
    entries: int
    time_ms: int
    reason: Reason


class Outcome(Struct, frozen=True):
    """What came of a piece of work: `name` was made or verified (`wrong`: what is wrong with it), `dropped` went,
    `left` could not go, and `found` is there now.
    """

    found: list[Found]
    name: str = ""
    wrong: str = ""
    dropped: list[str] = []
    left: list[str] = []


class Vault:
    """The backups of one state directory."""

    def __init__(self, state: Path, *, version: str, deliver: Callable[..., object], log: Any) -> None:
        self.directory: Final = BackupDirectory(state)
        self._state = state
        self._version = version
        self._deliver = deliver
        self._log = log
        self._prover = Prover()
        self._threads: set[threading.Thread] = set()

    def open(self) -> list[Found]:
        """What is there; leftovers of a crash are removed, and what is not as it should be is told of."""
        left = self.directory.sweep()
        if left:
            self._log.warning("removed what was left of a backup", files=left)
        found = self.directory.found()
        for each in found:
            if each.state != "valid":
                self._log.warning("a backup cannot be used", backup=each.name, state=each.state)
        return found

    def close(self) -> None:
        """End what is under way, and wait for it; but for a disk that does not answer nobody waits for ever: what hangs
        there ends with the process, and keeps its directory until then.
        """
        self._prover.stop()
        threads = list(self._threads)  # one that publishes, one that verifies, one that forgets
        for thread in threads:
            thread.join(CLOSE_S)
        if any(thread.is_alive() for thread in threads):
            self._log.warning("a backup is left unfinished: the disk does not answer")
        else:
            self.directory.close()

    def demand_room(self) -> None:
        """Raises CosessionError disk_full when a copy of the store would leave too little."""
        free, volume = self.directory.room()
        needed = min(SPARE_BYTES, volume // 4)
        for name in ("store.db", "store.db-wal"):
            with contextlib.suppress(OSError):
                needed += os.lstat(self._state / name).st_size
        if free < needed:
            raise CosessionError(
                f"cannot back up: that takes {needed:,} bytes, the disk has {free:,} free; free space, or drop backups",
                code="disk_full",
                data={"needed_bytes": needed, "free_bytes": free},
            )

    def begin(self, revision: int, time_ms: int, reason: Reason) -> tuple[str, Path, int]:
        """The partial name, the path and the open descriptor of a new empty file. Raises CosessionError."""
        try:
            partial = self.directory.free_name(revision, time_ms, reason)
            return partial, self.directory.partial(partial), self.directory.begin(partial)
        except OSError as error:
            raise _told(error) from error

    def discard(self, partial: str) -> None:
        """What was begun will not be finished."""
        with contextlib.suppress(OSError):
            self.directory.discard(partial)

    # -- pieces of work, each on a thread -----------------------------------------------------------------------------

    def publish(self, copied: Copied, kept: Keep, tell: Tell, done: Callable[[Outcome | CosessionError], None]) -> None:
        """Prove a copy, give it its final name, then drop what is no longer kept."""

        def work() -> Outcome:
            try:
                name = self._publish(copied, tell)
            except BaseException:
                self.discard(copied.partial)
                raise
            # What a purge will drop must not crowd out what it leaves.
            dropped = [] if copied.reason == "purge" else self._rotate(name, copied.time_ms, kept)
            return Outcome(self.directory.found(), name, dropped=dropped)

        self._run(work, done)

    def verify(self, name: str, tell: Tell, done: Callable[[Outcome | CosessionError], None]) -> None:
        """Read a backup from end to end; what is found damaged is noted so in its manifest."""

        def work() -> Outcome:
            wrong = self._prover.wrong(name, tell)
            manifest = next((each.manifest for each in self.directory.found() if each.name == name), None)
            if wrong and manifest is not None and manifest.verified:
                self.directory.write_manifest(name, structs.replace(manifest, verified=False))
                self._log.error("a backup is damaged", backup=name, reason=wrong)
            return Outcome(self.directory.found(), name, wrong)

        self._run(work, done)

    def forget(
        self, id: EntryId, before: int, *, spared: str, done: Callable[[Outcome | CosessionError], None]
    ) -> None:
        """Drop every backup but `spared` that still holds a value of `id` from below `before`; without one to spare,
        only tell which they are.
        """

        def work() -> Outcome:
            holding = [
                each.name
                for each in self.directory.found()
                if each.name != spared and may_hold(self.directory.database(each.name), id, before)
            ]
            dropped = self._drop(holding) if spared else []
            found = self.directory.found()
            return Outcome(found, dropped=dropped, left=[name for name in holding if name not in dropped])

        self._run(work, done)

    # -- on those threads ---------------------------------------------------------------------------------------------

    def _publish(self, copied: Copied, tell: Tell) -> str:
        copied.copy.finish()
        facts = self._prover.facts(self.directory.partial(copied.partial), tell)
        compare(facts, copied.position, copied.entries)
        manifest = describe(facts, version=self._version, time_ms=copied.time_ms, reason=copied.reason)
        name = self.directory.free_name(facts.revision, copied.time_ms, copied.reason)
        self.directory.publish(copied.partial, name, manifest)
        self._log.info("backed up", backup=name, bytes=facts.size_bytes, entries=facts.entries)
        return name

    def _rotate(self, newest: str, now_ms: int, kept: Keep) -> list[str]:
        manifests = {each.name: each.manifest for each in self.directory.found() if each.manifest is not None}
        if not kept.bytes_max:
            most = max(KEPT_BYTES_MIN, STORES_KEPT * manifests[newest].size_bytes)
            kept = structs.replace(kept, bytes_max=most)
        return self._drop(keep(manifests, now_ms, kept)[1])

    def _drop(self, names: list[str]) -> list[str]:
        """Those that are gone then."""
        dropped = []
        for name in names:
            try:
                self.directory.drop(name)
            except OSError as error:
                self._log.warning("cannot drop a backup", backup=name, reason=str(error))
            else:
                dropped.append(name)
                self._log.info("dropped a backup", backup=name)
        return dropped

    def _run(self, work: Callable[[], Outcome], done: Callable[[Outcome | CosessionError], None]) -> None:
        def run() -> None:
            result: Outcome | CosessionError
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - told, whatever it is
                result = _told(error)
                self._log.error("cannot work on the backups", reason=result.message)
            self._threads.discard(thread)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and everybody who waited with it
                self._deliver(done, result)

        thread = threading.Thread(target=run, name="backup", daemon=True)
        self._threads.add(thread)
        thread.start()


def _told(error: Exception) -> CosessionError:
    """What went wrong as an error of the catalogue, with what to do."""
    if isinstance(error, CosessionError) and not isinstance(error, ConfigError):
        return error
    if isinstance(error, CopyFailed) and error.is_full:
        return CosessionError(f"{error}; free space, or drop backups", code="disk_full")
    if isinstance(error, OSError) and error.errno in _FULL:
        return CosessionError("cannot back up: the disk is full; free space, or drop backups", code="disk_full")
    if isinstance(error, (StoreBroken, ConfigError)):
        return CosessionError(
            f"cannot back up: the copy is not what it should be ({error}); it was thrown away; try again, and if that "
            "is no different, look at the disk",
            code="damaged",
        )
    if isinstance(error, (OSError, CopyFailed)):
        return CosessionError(f"cannot back up: {error}; see to the disk", code="io_error")
    return CosessionError(f"cannot back up: the daemon has a bug ({type(error).__name__}: {error})", code="internal")
