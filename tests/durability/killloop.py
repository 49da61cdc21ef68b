"""The kill -9 loop: one state directory, writers and a watcher that never give up, and a daemon killed again and again.

    python tests/durability/killloop.py --cycles 200 --entries 100000

Each cycle lets the daemon work for a random while, kills it with SIGKILL in the middle of it (now and then also while
it is still recovering), starts it again, and checks at once that the epoch is the same and no acknowledged revision is
missing. Writers are killed too, where the plan says so, while slow watchers lag behind and the log is trimmed. At the
end of each round the judge (oracle.py) replays all journals against the log, the listing and the histories.

Rule: everything random comes from the seed; everything started is stopped, whatever happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec import Struct, msgpack

from cosession.errors import CosessionError
from cosession.messages.admin import Status
from cosession.messages.limits import VERSIONS_KEPT
from cosession.messages.past import History
from durability.backing import Backer
from durability.crew import FINISH_S, Crew
from durability.journal import Deed
from durability.link import LinkLost, open_when_ready
from durability.loop import ScriptedDaemon, listed, logged, preload, preloaded, sabotaged
from durability.model import Model
from durability.oracle import Found, Judge, revision_of
from durability.watchers import SlowWatcher, Watcher
from durability.writer import BURST_MAX
from harness import private_home
from server.daemons import configure

#: How long the daemon works between two kills.
UP_S: Final = (0.08, 0.5)
#: One restart in so many is killed before it is ready.
EARLY_KILL_IN: Final = 6
#: Longer than the short leases of the workload, far shorter than the long ones.
SETTLE_S: Final = 0.6


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. `time_s_max` ends the loop early, whatever `cycles` says; `round_cycles` are judged at a time.

    `client_kills`: how likely a writer is killed before the daemon is. `window`: log_window_revisions, 0 for the usual;
    wide enough that who keeps up stays within. `up_s`: how long the daemon works between two kills. `burst`: how many
    requests a writer has on the way at most.
    """

    cycles: int = 8
    round_cycles: int = 1_000_000
    entries: int = 0
    writers: int = 4
    seed: int = 1
    sabotage: str = ""
    time_s_max: float = 1800.0
    client_kills: float = 0.0
    slow_watchers: int = 0
    backups: bool = False
    window: int = 0
    up_s: tuple[float, float] = UP_S
    burst: int = BURST_MAX


class Report(Struct, kw_only=True):
    """What came out. `lost`, `watch_gaps` and `watch_duplicates` must be 0 and `violations` empty."""

    seed: int
    cycles: int = 0
    rounds: int = 0
    killed_early: int = 0
    clients_killed: int = 0
    backups: int = 0
    unknown_committed: int = 0
    operations: int = 0
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
    """One run of a plan. `on_round` is given the deeds of each round, whatever the judge says of them."""

    def __init__(
        self,
        plan: Plan,
        home: Path,
        journals: Path,
        *,
        on_round: Callable[[list[Deed], list[Deed]], None] | None = None,
    ) -> None:
        self._plan = plan
        self._journals = journals
        self._on_round = on_round
        self._random = random.Random(plan.seed)
        self._daemon = ScriptedDaemon(home, command=sabotaged(plan.sabotage), forked=True)
        self._ready: list[float] = []
        self._epoch = ""
        self._model = Model()
        self._next_writer = 0
        self.found = Found()
        self.report = Report(seed=plan.seed)
        if plan.window:
            configure(home, log_window_revisions=plan.window)

    def run(self) -> Report:
        """The whole of it; violations are in the report."""
        began = time.monotonic()
        deadline = began + self._plan.time_s_max
        with contextlib.ExitStack() as stack:
            stack.callback(self._sweep)
            _, hello = self._daemon.start_timed()
            self._epoch = hello.epoch
            if self._plan.entries:
                preload(self._daemon.socket, self._plan.entries)
                for entry in preloaded(self._plan.entries):
                    self._model.preload(entry)
            while self.report.cycles < self._plan.cycles and not self.found and time.monotonic() < deadline:
                self._round(deadline)
        return self._reported(time.monotonic() - began)

    # -- the loop --------------------------------------------------------------------------------------------------

    def _round(self, deadline: float) -> None:
        """Some cycles with writers and watchers of its own, judged at its end; the store goes on."""
        first = self._model.revision + 1
        directory = self._journals / f"{self.report.rounds}"
        directory.mkdir()
        seed = f"{self._plan.seed}/{self.report.rounds}"
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, directory)
            socket = self._daemon.socket
            watcher = Watcher(socket, start=first, epoch=self._epoch, found=self.found, seed=self._plan.seed)
            slow = [
                SlowWatcher(socket, start=first, epoch=self._epoch, found=self.found, seed=f"{seed}/{number}")
                for number in range(self._plan.slow_watchers)
            ]
            backer = Backer(socket, found=self.found, seed=seed)
            for each in (watcher, *slow, *((backer,) if self._plan.backups else ())):
                stack.callback(each.stop)
                each.start()
            crew = stack.enter_context(
                Crew(
                    socket,
                    directory,
                    writers=self._plan.writers,
                    first=self._next_writer,
                    seed=self._plan.seed,
                    burst=self._plan.burst,
                )
            )
            crew.board.wait_for_all(FINISH_S)
            last = min(self._plan.cycles, self.report.cycles + self._plan.round_cycles)
            while self.report.cycles < last and not self.found and time.monotonic() < deadline:
                self._cycle(crew)
            if not self.found:
                self._finish(crew, watcher, slow, first)
            if self._plan.backups and not self.found:
                backer.stop()
                backer.judge()
            self.report.backups += backer.made
            self._next_writer = crew.next_number
            self.report.watch_resumed += watcher.resumed
            self.report.revisions = watcher.reached
            self.report.clients_killed += crew.killed
        self.report.rounds += 1

    def _cycle(self, crew: Crew) -> None:
        up_s = self._random.uniform(*self._plan.up_s)
        if self._random.random() < self._plan.client_kills:
            early_s = up_s * self._random.random()
            time.sleep(early_s)
            crew.kill_one()
            up_s -= early_s
        time.sleep(up_s)
        acknowledged = crew.board.newest()
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

    def _sweep(self) -> None:
        """The daemon, by force if need be; an end that was not asked for is a violation."""
        try:
            self._daemon.close()
        except AssertionError as error:
            self.found.add("daemon", str(error))

    # -- the end of a round ----------------------------------------------------------------------------------------

    def _finish(self, crew: Crew, watcher: Watcher, slow: list[SlowWatcher], first: int) -> None:
        crew.finish(self.found)
        deeds, unknown = crew.deeds()
        try:
            self._judge(deeds, unknown, watcher, slow, first)
        except (LinkLost, CosessionError, AssertionError) as error:
            self.found.add("end", f"cannot read the store at the end: {type(error).__name__}: {error}")
        if self._on_round:
            self._on_round(deeds, unknown)

    def _judge(
        self, deeds: list[Deed], unknown: list[Deed], watcher: Watcher, slow: list[SlowWatcher], first: int
    ) -> None:
        """One more kill when all is quiet, so that what is read back is what the disk holds."""
        time.sleep(SETTLE_S)
        self._daemon.kill()
        last = self._daemon.start_timed()[1].revision
        if not watcher.wait_for(last, FINISH_S) and not self.found:
            self.found.add("gap", f"the watch stands at {watcher.reached}, the store at {last}")
        for each in (watcher, *slow):
            each.stop()
        if self.found:
            return  # a log with a hole says nothing about what is in it
        with open_when_ready(self._daemon.socket) as link:
            compact_revision = link.call(Status()).compact_revision
            judge = Judge(self._model, watcher.log, self.found, compact_revision=compact_revision)
            judge.judge(deeds, unknown)
            for each in slow:
                each.judge(first, watcher.log, compact_revision)
            self._count(deeds)
            self.report.unknown_committed += judge.adopted
            judge.judge_entries(listed(link))  # from the daemon's memory
            judge.judge_entries(listed(link, judge.last))  # from its tables
            for key in self._model.lives:
                judge.judge_history(key, link.call(History(key=key, limit=VERSIONS_KEPT)).versions)
            oldest = max(first, compact_revision)
            if logged(link, start=oldest, last=judge.last) != watcher.log[oldest - first :]:
                self.found.add("log", "a fresh watch shows other changes than the resuming one has seen")
        self._model.forget()

    def _count(self, deeds: list[Deed]) -> None:
        report = self.report
        report.operations += len(deeds)
        for deed in deeds:
            if deed.code:
                report.refused += 1
            elif deed.method in ("get", "range"):
                report.reads += 1
            elif revision_of(deed):
                report.acknowledged += 1
                if deed.attempts > 1:
                    repeated = msgpack.decode(deed.body)["repeated"]
                    report.repeated_committed += repeated
                    report.repeated_anew += not repeated

    def _reported(self, seconds: float) -> Report:
        report, counts = self.report, self.found.counts
        report.entries = self._plan.entries
        report.lost = counts.get("lost", 0)
        report.watch_gaps = counts.get("gap", 0)
        report.watch_duplicates = counts.get("duplicate", 0)
        report.ready_p50_s = round(statistics.median(self._ready), 3) if self._ready else 0.0
        report.ready_max_s = round(max(self._ready, default=0.0), 3)
        report.seconds = round(seconds, 1)
        report.violations, report.words = counts, self.found.words
        return report


def run(plan: Plan, *, on_round: Callable[[list[Deed], list[Deed]], None] | None = None) -> Report:
    """Run a plan in a home of its own, removed afterwards."""
    with private_home() as home, tempfile.TemporaryDirectory(prefix="cs-journals-") as journals:
        return KillLoop(plan, home, Path(journals), on_round=on_round).run()


def table(report: Report) -> str:
    """The report for people."""
    rows: list[tuple[str, Any]] = [
        ("SIGKILL under load (of which also while recovering)", f"{report.cycles} ({report.killed_early})"),
        ("SIGKILL of a writer", report.clients_killed),
        ("  of whose requests in doubt had been committed", report.unknown_committed),
        ("backups answered meanwhile", report.backups),
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
    parser.add_argument("--client-kills", type=float, default=0.0, help="how likely a writer is killed in a cycle")
    parser.add_argument("--slow-watchers", type=int, default=0)
    parser.add_argument("--backups", action="store_true", help="make one after another meanwhile")
    parser.add_argument("--window", type=int, default=0, help="log_window_revisions")
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
