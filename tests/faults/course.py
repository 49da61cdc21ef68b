"""One course: a daemon in which one call fails, a client that goes on whatever happens, and whether all of it is true.

The client sends one request after the other and writes down how each ended. When the daemon is gone, it is started
again, in order this time; what was in doubt is repeated under the same request id, and the rest of the workload
follows. In the end the judge of the kill loop replays everything: what was answered is there, what was refused is not,
what was in doubt happened as a whole or not at all.

Rule: a daemon in which a call fails may refuse, or end with a code of the catalogue; it may not answer wrongly, hang,
or end in any other way, and it begins again without anybody's help.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from msgspec import Raw, msgpack

import zygote
from cosession.errors import CosessionError
from cosession.messages import Request
from cosession.messages.admin import Status
from cosession.messages.backup import BackupNow, BackupNowReply
from cosession.messages.limits import VERSIONS_KEPT
from cosession.messages.past import History, Purge, PurgeReply
from cosession.messages.store import Delete, DeleteReply, Get, Put
from cosession.protocol import Failed
from cosessiond.store.backup import BackupDirectory
from cosessiond.store.engine import StoreBroken
from cosessiond.store.proving import differs, prove
from durability.journal import Deed
from durability.link import Link, LinkLost, Outcome, open_when_ready
from durability.loop import READY_S, listed
from durability.model import Model
from durability.oracle import Found, Judge
from durability.traced import AttachedDaemon, TracedDaemon
from durability.watchers import Watcher
from durability.writer import Workload
from faults.points import LISTING, Point, injected, points

#: What fails: a daemon over an empty directory, or one that comes back to what a kill has left.
Scene = Literal["new", "killed"]
SCENES: Final[tuple[Scene, ...]] = ("new", "killed")
SERVING: Final = Path(__file__).resolve().parents[1] / "power" / "serving.py"
REQUESTS: Final = 60
#: Always the same, so that the calls are nearly the same as well.
SEED: Final = 1
LARGE: Final = "large"
#: Refusals by which nothing was done.
CERTAIN: Final = frozenset({"disk_full", "shutting_down"})
#: Why there may be no backup where something failed.
NO_BACKUP: Final = frozenset({"disk_full", "io_error", "shutting_down"})
#: How a daemon may end that was not asked to: by the fault, by P13, or because it cannot begin.
ENDS: Final = frozenset({-signal.SIGKILL, 70, 78})
SEEN_S: Final = 2.0
FINISH_S: Final = 60.0
_encode = msgpack.Encoder().encode


def daemon_of(home: Path, flags: Sequence[str], bug: str) -> TracedDaemon | AttachedDaemon:
    """Under strace from its beginning; where processes can be forked, from behind its imports."""
    if zygote.available():
        return AttachedDaemon(home, "power.serving", [bug], home / "traces", flags)
    command = [sys.executable, "-P", str(SERVING), bug]
    return TracedDaemon(home, command, home / "traces", flags)


class Came(NamedTuple):
    """What came of one course. `end`: how the daemon in which something failed ended, 0: when it was asked to."""

    injected: bool
    end: int
    refused: int
    repeated: int
    wrong: list[str]
    points: list[tuple[str, int]]  # of a course without a fault


class Course:
    """One course in an empty home. `bug`: a seeded bug of the daemon, see power/serving.py."""

    def __init__(
        self, home: Path, scene: Scene, point: Point | None, *, requests: int = REQUESTS, bug: str = "none"
    ) -> None:
        (home / "traces").mkdir()
        self._daemon = daemon_of(home, point.flags if point else LISTING, bug)
        self._scene = scene
        self._point = point
        self._requests = requests
        self._workload = Workload(0, writers=1, seed=SEED, burst=2)
        self._watcher = Watcher(self._daemon.socket, start=1, epoch="", found=Found(), seed=SEED)
        self._link: Link | None = None
        self._epoch = ""
        self._backup = ""
        self._deeds: list[Deed] = []
        self._found = Found()
        self._came = Came(point is None, 0, 0, 0, [], [])

    def run(self) -> Came:
        """All of it."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._daemon.sweep)
            stack.callback(self._stop_watching)
            try:
                self._begin()
                for number in range(self._requests):
                    if self._scene == "killed" and number == self._requests // 3:
                        self._kill()
                    for deed in self._asked(number):
                        self._do(deed)
                self._stop()
                self._judge()
            except (AssertionError, CosessionError, LinkLost, OSError, StoreBroken) as error:
                self._found.add("end", f"{type(error).__name__}: {error}")
        repeated = sum(deed.attempts > 1 for deed in self._deeds)
        return self._came._replace(repeated=repeated, wrong=self._found.words)

    # -- the client ------------------------------------------------------------------------------------------------

    def _asked(self, number: int) -> Iterator[Deed]:
        """The workload, and between it what is rarer: large values, that one of them is purged, and a backup."""
        yield from self._workload.burst()
        if number % 15 == 10:
            yield self._own(Put(key=LARGE, value=Raw(_encode("x" * 60_000)), request_id=f"large-{number}"))
        if number == self._requests * 2 // 3:
            # The watch has to see the value before it is gone; where there is no daemon any more, the read starts one.
            while not self._watcher.wait_for(self._workload.known, SEEN_S) and not self._found:
                yield self._own(Get(key=LARGE))
            yield self._own(Purge(key=LARGE, request_id="purge"))
        if number == self._requests * 5 // 6:  # behind the purge, which removes what still holds the value
            yield self._own(BackupNow(wait_s=FINISH_S / 2))

    def _own(self, request: Request[Any]) -> Deed:
        self._workload.serial += 1
        params, known = Raw(_encode(request)), self._workload.known
        return Deed(0, self._workload.serial, request.method, params, known, time.monotonic())

    def _do(self, deed: Deed) -> None:
        """Until it is certain how it ended."""
        while True:
            deed.attempts += 1
            try:
                link = self._linked()
                (id,) = link.send(deed.request())
                outcome = link.outcome(id)
            except (LinkLost, ConnectionError, FileNotFoundError) as lost:
                self._lost(lost)
                continue
            deed.ended_s = time.monotonic()
            if deed.method == BackupNow.method:
                self._backed_up(outcome)
                return
            if isinstance(outcome, Failed) and outcome.error.code in CERTAIN:
                self._came = self._came._replace(refused=self._came.refused + 1)
                if deed.method == "purge":  # of several steps: what was begun is finished by asking again
                    continue
                return  # nobody's from now on: were it done all the same, the judge would find a stranger
            self._settle(deed, outcome)
            return

    def _backed_up(self, outcome: Outcome) -> None:
        """One that was told of has to be there in the end; that there is none has to be for a reason."""
        if isinstance(outcome, BackupNowReply):
            assert outcome.backup is not None, f"a backup takes more than {FINISH_S / 2:g} s"
            self._backup = outcome.backup.name
        elif isinstance(outcome, Failed) and outcome.error.code not in NO_BACKUP:
            self._found.add("backup", f"it ended with {outcome.error.code}: {outcome.error.message}")

    def _settle(self, deed: Deed, outcome: Outcome) -> None:
        if isinstance(outcome, PurgeReply):  # a deletion, as far as the judge is concerned
            outcome = DeleteReply(revision=outcome.revision, written=outcome.written, repeated=outcome.repeated)
            deed.method, deed.params = "delete", Raw(_encode(Delete(key=LARGE, request_id="purge")))
        self._workload.learn(deed.request(), outcome)
        if isinstance(outcome, Failed):
            data = outcome.error.data
            deed.code, deed.revision, deed.body = outcome.error.code, outcome.revision, Raw(_encode(data))
        else:
            deed.revision, deed.body = outcome.revision, Raw(_encode(outcome))
        self._deeds.append(deed)

    def _linked(self) -> Link:
        if self._link is None:
            self._link = Link.open(self._daemon.socket, timeout_s=FINISH_S)
            hello = self._link.hello(epoch=self._epoch, seen_revision=self._workload.known)
            self._workload.begin(hello.revision)
            if not self._epoch:
                self._epoch = hello.epoch
                self._watcher = Watcher(self._daemon.socket, start=1, epoch=hello.epoch, found=self._found, seed=SEED)
                self._watcher.start()
        return self._link

    def _lost(self, lost: Exception) -> None:
        self._unlink()
        deadline = time.monotonic() + FINISH_S
        while self._daemon.running:
            assert time.monotonic() < deadline, f"the daemon lives, and the connection was lost: {lost}"
            time.sleep(0.01)
        self._ended(self._daemon.wait())
        self._start_again()

    def _stop_watching(self) -> None:
        self._watcher._stopping.set()  # and it is not waited for: there may be nobody any more to connect to

    def _unlink(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    # -- the daemon ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The first start."""
        if self._scene == "killed":
            self._start_again()
        else:
            self._start_faulty()

    def _kill(self) -> None:
        """From here on something fails."""
        self._unlink()
        self._daemon.kill()
        self._daemon.is_traced = True
        self._start_faulty()

    def _start_faulty(self) -> None:
        """The run in which something fails, perhaps before it is ready."""
        self._daemon.start(wait=False)
        deadline = time.monotonic() + READY_S
        while not self._daemon.accepts():
            if not self._daemon.running:
                self._ended(self._daemon.wait())
                self._start_again()
                return
            assert time.monotonic() < deadline, "the daemon is neither ready nor gone"
            time.sleep(0.01)

    def _start_again(self) -> None:
        """A run in which nothing fails."""
        self._daemon.is_traced = False
        self._daemon.start_timed()

    def _ended(self, code: int) -> None:
        """It ended and was not asked to."""
        said = self._daemon.stderr()[-2000:]
        assert self._daemon.is_traced, f"the daemon ended with {code}, and nothing had failed:\n{said}"
        assert code in ENDS, f"the daemon ended with {code}:\n{said}"
        self._look(code)

    def _stop(self) -> None:
        """An orderly stop; in the run in which something fails it may fail as well."""
        self._unlink()
        code = self._daemon.stop()
        assert code == 0 or (self._daemon.is_traced and code in ENDS), (
            f"the daemon ended with {code} when asked to:\n{self._daemon.stderr()[-2000:]}"
        )
        if self._daemon.is_traced:
            self._look(code)

    def _look(self, code: int) -> None:
        """What there was in the trace of the faulty run."""
        if self._point is not None:
            was_there = injected(self._daemon.trace, self._point, code)
            self._came = self._came._replace(injected=was_there, end=code)
        else:
            self._came = self._came._replace(points=points(self._daemon.trace, self._daemon.home), end=code)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """What a daemon finds that begins once more, against all that was said."""
        self._start_again()
        with open_when_ready(self._daemon.socket) as link:
            hello = link.hello(epoch=self._epoch, seen_revision=self._workload.known)
            assert hello.epoch == self._epoch, f"the epoch was {self._epoch}, is {hello.epoch}"
            reached = self._watcher.wait_for(hello.revision, FINISH_S)
            assert reached, f"the watch stands at {self._watcher.reached} of {hello.revision}: {self._found.words}"
            self._watcher.stop()
            compact_revision = link.call(Status()).compact_revision
            judge = Judge(Model(), self._watcher.log, self._found, compact_revision=compact_revision)
            judge.judge(self._deeds)
            judge.judge_entries(listed(link, judge.last))
            for key in judge.model.lives.keys() - {LARGE}:
                judge.judge_history(key, link.call(History(key=key, limit=VERSIONS_KEPT)).versions)
        self._judge_backups()
        code = self._daemon.stop()
        assert code == 0, f"the daemon ended with {code} in the end:\n{self._daemon.stderr()[-2000:]}"

    def _judge_backups(self) -> None:
        """Each that has its name is whole, and one that was told of is there."""
        with contextlib.closing(BackupDirectory(self._daemon.home / "state")) as directory:
            found = {each.name: each for each in directory.found() if each.state != "no_database"}
            for name, each in found.items():
                assert each.manifest is not None, f"{name} has its name and is {each.state}"
                wrong = differs(each.manifest, prove(directory.database(name)))
                assert not wrong, f"{name}: {wrong}"
        assert not self._backup or self._backup in found, f"{self._backup} was told of, there are {sorted(found)}"
