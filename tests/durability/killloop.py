"""The kill -9 loop: one state directory, writers and a watcher that never give up, and a daemon killed again and again.

    python tests/durability/killloop.py --cycles 200 --entries 100000

Each cycle lets the daemon work for a random while, kills it with SIGKILL in the middle of it (now and then also while
it is still recovering), starts it again, and checks at once that the epoch is the same and no acknowledged revision is
missing. At the end the judge (oracle.py) replays all journals against the log, the listing and the histories.

Rule: everything random comes from the seed; everything started is stopped, whatever happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec import Struct, msgpack

from cosession.errors import CosessionError
from cosession.messages.admin import Status
from cosession.messages.limits import VERSIONS_KEPT
from cosession.messages.past import History
from durability import journal
from durability.link import LinkLost, open_when_ready
from durability.loop import ScriptedDaemon, Watcher, listed, logged, preload, preloaded, sabotaged
from durability.oracle import Found, Judge, Model, revision_of
from harness import private_home

#: How long the daemon works between two kills.
UP_S: Final = (0.08, 0.5)
#: One restart in so many is killed before it is ready.
EARLY_KILL_IN: Final = 6
FINISH_S: Final = 30.0
#: Longer than the short leases of the workload, far shorter than the long ones.
SETTLE_S: Final = 0.6


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. `time_s_max` ends the loop early, whatever `cycles` says."""

    cycles: int = 8
    entries: int = 0
    writers: int = 4
    seed: int = 1
    sabotage: str = ""
    time_s_max: float = 1800.0


class Report(Struct, kw_only=True):
    """What came out. `lost`, `watch_gaps` and `watch_duplicates` must be 0 and `violations` empty."""

    seed: int
    cycles: int = 0
    killed_early: int = 0
    entries: int = 0
    revisions: int = 0
    acknowledged: int = 0
    repeated_committed: int = 0
    repeated_anew: int = 0
    refused: int = 0
    reads: int = 0
    watch_resumed: int = 0
    lost: int = 0
    watch_gaps: int = 0
    watch_duplicates: int = 0
    ready_p50_s: float = 0.0
    ready_max_s: float = 0.0
    seconds: float = 0.0
    violations: dict[str, int] = {}
    words: list[str] = []


class KillLoop:
    """One run of a plan."""

    def __init__(self, plan: Plan, home: Path, journals: Path) -> None:
        self._plan = plan
        self._journals = journals
        self._random = random.Random(plan.seed)
        self._daemon = ScriptedDaemon(home, command=sabotaged(plan.sabotage))
        self._ready: list[float] = []
        self._epoch = ""
        self.found = Found()
        self.report = Report(seed=plan.seed)

    def run(self) -> Report:
        """The whole of it; violations are in the report."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(self._sweep)
            _, hello = self._daemon.start_timed()
            self._epoch = hello.epoch
            loaded = preload(self._daemon.socket, self._plan.entries) if self._plan.entries else 0
            board = journal.Board(self._journals / "board", self._plan.writers)
            stack.callback(board.close)
            watcher = Watcher(
                self._daemon.socket, start=loaded + 1, epoch=self._epoch, found=self.found, seed=self._plan.seed
            )
            stack.callback(watcher.stop)
            watcher.start()
            writers = stack.enter_context(self._writers())
            board.wait_for_all(FINISH_S)
            self._cycles(board, began + self._plan.time_s_max)
            if not self.found:
                self._finish(writers, watcher, loaded)
        return self._reported(watcher, time.monotonic() - began)

    # -- the loop --------------------------------------------------------------------------------------------------

    def _cycles(self, board: journal.Board, deadline: float) -> None:
        while self.report.cycles < self._plan.cycles and not self.found and time.monotonic() < deadline:
            time.sleep(self._random.uniform(*UP_S))
            acknowledged = board.newest()
            self._daemon.kill()
            if self._random.randrange(EARLY_KILL_IN) == 0:
                self._daemon.start(wait=False)
                time.sleep(self._random.uniform(0.0, 0.4))
                self._daemon.kill()
                self.report.killed_early += 1
            self.report.cycles += 1
            try:
                seconds, hello = self._daemon.start_timed()
            except AssertionError as error:
                self.found.add("start", str(error))
                return
            self._ready.append(seconds)
            if hello.epoch != self._epoch:
                self.found.add("epoch", f"it was {self._epoch}, is {hello.epoch} after kill {self.report.cycles}")
            if hello.revision < acknowledged:
                self.found.add(
                    "lost",
                    f"kill {self.report.cycles}: {acknowledged} was acknowledged, the store ends at {hello.revision}",
                )

    @contextlib.contextmanager
    def _writers(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        plan = self._plan
        script = str(Path(__file__).resolve().with_name("writer.py"))
        started: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(plan.writers):
                place = [str(self._daemon.socket), str(self._journals), str(number), str(plan.writers), str(plan.seed)]
                with (self._journals / f"{number}.stderr").open("wb") as stderr:
                    command = [sys.executable, script, *place]
                    started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr))
            yield started
        finally:
            for process in started:
                process.kill()
                process.wait()

    def _sweep(self) -> None:
        """The daemon, by force if need be; an end that was not asked for is a violation."""
        try:
            self._daemon.close()
        except AssertionError as error:
            self.found.add("daemon", str(error))

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self, writers: list[subprocess.Popen[bytes]], watcher: Watcher, loaded: int) -> None:
        for process in writers:
            process.terminate()
        for number, process in enumerate(writers):
            try:
                code = process.wait(FINISH_S)
            except subprocess.TimeoutExpired:
                self.found.add("writer", f"writer {number} did not come to an end within {FINISH_S:g} s")
            else:
                if code:
                    said = (self._journals / f"{number}.stderr").read_text(errors="replace")[-500:]
                    self.found.add("writer", f"writer {number} ended with {code}: {said}")
        try:
            self._judge(watcher, loaded)
        except (LinkLost, CosessionError, AssertionError) as error:
            self.found.add("end", f"cannot read the store at the end: {type(error).__name__}: {error}")

    def _judge(self, watcher: Watcher, loaded: int) -> None:
        """One more kill when all is quiet, so that what is read back is what the disk holds."""
        time.sleep(SETTLE_S)
        self._daemon.kill()
        last = self._daemon.start_timed()[1].revision
        if not watcher.wait_for(last, FINISH_S) and not self.found:
            self.found.add("gap", f"the watch stands at {watcher.reached}, the store at {last}")
        if self.found:
            return  # a log with a hole says nothing about what is in it
        watcher.stop()
        model = Model()
        for entry in preloaded(self._plan.entries):
            model.preload(entry)
        judge = Judge(model, watcher.log, self.found)
        deeds = [deed for n in range(self._plan.writers) for deed in journal.read(self._journals / f"{n}.journal")]
        judge.judge(deeds)
        self._count(deeds)
        with open_when_ready(self._daemon.socket) as link:
            judge.judge_entries(listed(link))  # from the daemon's memory
            judge.judge_entries(listed(link, judge.last))  # from its tables
            for key in model.lives:
                judge.judge_history(key, link.call(History(key=key, limit=VERSIONS_KEPT)).versions)
            oldest = max(loaded + 1, link.call(Status()).compact_revision)
            if logged(link, start=oldest, last=judge.last) != watcher.log[oldest - loaded - 1 :]:
                self.found.add("log", "a fresh watch shows other changes than the resuming one has seen")

    def _count(self, deeds: list[journal.Deed]) -> None:
        report = self.report
        for deed in deeds:
            if deed.code:
                report.refused += 1
            elif deed.method == "get":
                report.reads += 1
            elif revision_of(deed):
                report.acknowledged += 1
                if deed.attempts > 1:
                    repeated = msgpack.decode(deed.body)["repeated"]
                    report.repeated_committed += repeated
                    report.repeated_anew += not repeated

    def _reported(self, watcher: Watcher, seconds: float) -> Report:
        report, counts = self.report, self.found.counts
        report.entries = self._plan.entries
        report.revisions = watcher.reached
        report.watch_resumed = watcher.resumed
        report.lost = counts.get("lost", 0)
        report.watch_gaps = counts.get("gap", 0)
        report.watch_duplicates = counts.get("duplicate", 0)
        report.ready_p50_s = round(statistics.median(self._ready), 3) if self._ready else 0.0
        report.ready_max_s = round(max(self._ready, default=0.0), 3)
        report.seconds = round(seconds, 1)
        report.violations, report.words = counts, self.found.words
        return report


def run(plan: Plan) -> Report:
    """Run a plan in a home of its own, removed afterwards."""
    with private_home() as home, tempfile.TemporaryDirectory(prefix="cs-journals-") as journals:
        return KillLoop(plan, home, Path(journals)).run()


def table(report: Report) -> str:
    """The report for people."""
    rows: list[tuple[str, Any]] = [
        ("SIGKILL under load (of which also while recovering)", f"{report.cycles} ({report.killed_early})"),
        ("entries of 200 B preloaded", report.entries),
        ("revisions", report.revisions),
        ("acknowledged writes", report.acknowledged),
        ("  in doubt after a kill: had been committed", report.repeated_committed),
        ("  in doubt after a kill: had not, committed when repeated", report.repeated_anew),
        ("refused writes (conflicts)", report.refused),
        ("reads checked", report.reads),
        ("watch resumed", report.watch_resumed),
        ("acknowledged writes lost", report.lost),
        ("watch gaps", report.watch_gaps),
        ("watch duplicates", report.watch_duplicates),
        ("seconds to ready after SIGKILL, p50", report.ready_p50_s),
        ("seconds to ready after SIGKILL, max", report.ready_max_s),
        ("violations", sum(report.violations.values())),
        ("seconds in all", report.seconds),
    ]
    return "\n".join([*(f"{name:60}{value!s:>16}" for name, value in rows), *report.words])


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description="Kill the daemon with SIGKILL under load, and judge what is left.")
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--entries", type=int, default=0, help="entries of 200 B to preload")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sabotage", default="", help="run a daemon with this seeded bug, see sabotage.py")
    parser.add_argument("--time-s-max", type=float, default=1800.0, help="stop killing after this many seconds")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    given = vars(parser.parse_args(arguments))
    file = given.pop("json")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves through every `finally`
    try:
        report = run(Plan(**given))
    except KeyboardInterrupt:
        return 130
    text = json.dumps(msgpack.decode(msgpack.encode(report)), indent=1)
    print(table(report))
    print(text)
    if file:
        file.write_text(text + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
