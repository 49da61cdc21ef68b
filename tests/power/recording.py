"""One recording: a daemon under strace, writers that keep a journal, kills and restarts, and what of it was true.

What the daemon did to its disk and what it told whom stand in one trace, in one order. Beside it lies the truth, as the
clients know it: the log as a watch saw it, which the judge of the kill loop has compared with every answer.

Rule: a recording that is wrong by itself (a write lost without any power cut, a call that the trace does not show) is
an error of its own; nothing is explored of it.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import msgpack

from cosession.errors import CosessionError
from cosession.messages.admin import Status
from cosession.messages.backup import BackupNow
from cosession.messages.watches import WatchEvent
from cosession.model import Change
from durability import journal
from durability.link import TIMEOUT_S as LINK_S
from durability.link import LinkLost, open_when_ready
from durability.loop import listed, logged
from durability.model import Model
from durability.oracle import Found, Judge
from durability.traced import TracedDaemon
from durability.watchers import Watcher
from durability.writer import Workload, Writer
from harness import Daemon, private_home
from power.disk import Disk
from power.trace import CALLS, STRING_BYTES, Event, Unreadable, events

HERE: Final = Path(__file__).resolve().parent
FLAGS: Final = (
    *("--seccomp-bpf", "-y", "-xx", "-s", str(STRING_BYTES), "-e", "signal=none"),
    *("-e", "trace=" + ",".join(f"?{name}" for name in CALLS)),
)
FINISH_S: Final = 120.0
#: Files whose content nobody reads: what a power cut leaves of them is all the same.
MEANINGLESS: Final = ("reserve", "room")
_decode_event = msgpack.Decoder(WatchEvent).decode


class Truth(NamedTuple):
    """What had happened when the recording ended. `batches[r - 1]` are the changes of revision r; `entries[r]` what
    stood then, by key: value, version, create_revision, mod_revision.
    """

    epoch: str
    batches: list[list[Change]]
    entries: list[dict[str, tuple[Any, int, int, int]]]


class Recording(NamedTuple):
    """All of it: the events of all runs of the daemon, one behind the other."""

    events: list[Event]
    truth: Truth


class Plan(NamedTuple):
    """What to record: so many revisions between two kills, in so many runs of the daemon."""

    seed: int = 1
    revisions: int = 60
    runs: int = 3
    writers: int = 2
    bug: str = "none"
    acts: bool = False  # a backup is made while it works, and in the end one more, which is restored


def record(plan: Plan, home: Path) -> Recording:
    """Record in an empty home. Raises AssertionError, Unreadable when the recording itself is wrong."""
    _configure(home)
    traces = home / "traces"
    traces.mkdir()
    command = [sys.executable, "-P", str(HERE / "serving.py"), plan.bug]
    daemon = TracedDaemon(home, command, traces, FLAGS)
    state = home / "state"
    disk, found = Disk(), Found()
    happened: list[Event] = []

    def ended() -> None:
        """Follow the run that has just ended, and see that nothing is there that the trace does not show."""
        lines = daemon.trace.read_text(encoding="ascii").splitlines()
        for event in events(lines, state):
            if event.path in MEANINGLESS:
                continue
            if event.is_certain or _was_done(event, state):
                disk.take(event)
                peer = f"{daemon.runs} {event.path}"  # numbers of sockets come again
                happened.append(event._replace(path=peer) if event.kind == "said" else event)
        _compare(disk, state)
        daemon.trace.unlink()

    with contextlib.ExitStack() as stack:
        stack.callback(daemon.sweep)
        _, hello = daemon.start_timed()
        watcher = Watcher(daemon.socket, start=1, epoch=hello.epoch, found=found, seed=plan.seed)
        stack.callback(watcher.stop)
        watcher.start()
        writers = [stack.enter_context(_writing(daemon.socket, traces, number, plan)) for number in range(plan.writers)]
        for run in range(plan.runs - 1):
            _reach(watcher, (run + 1) * plan.revisions, found)
            daemon.kill()
            ended()
            daemon.start_timed()
        if plan.acts:
            _back_up(daemon.socket)
        _reach(watcher, plan.runs * plan.revisions, found)
        for writer in writers:
            writer.end()
        code = daemon.stop()
        assert code == 0, f"the daemon ended with {code}:\n{daemon.stderr()}"
        ended()
        truth = _truth(home, watcher, plan, found)
        if plan.acts:
            daemon.run_traced([sys.executable, "-P", str(HERE / "acting.py"), plan.bug])
            ended()
    return Recording(happened, truth)


def _back_up(socket: Path) -> None:
    """While the writers go on."""
    with open_when_ready(socket) as link:
        made = link.call(BackupNow(wait_s=LINK_S / 2))
        while made.backup is None:
            made = link.call(BackupNow(number=made.number, wait_s=LINK_S / 2))


def _reach(watcher: Watcher, revision: int, found: Found) -> None:
    assert watcher.wait_for(revision, FINISH_S), f"the watch stands at {watcher.reached} of {revision}: {found.words}"


def _truth(home: Path, watcher: Watcher, plan: Plan, found: Found) -> Truth:
    """Judge what was answered against the log, which is the truth from now on. A daemon over a copy of the state tells
    what the watch has not seen any more.
    """
    watcher.stop()
    with private_home() as other:
        shutil.copytree(home / "state", other / "state")
        with Daemon(other) as again, open_when_ready(again.socket) as link:
            hello = link.hello()
            log = watcher.log[: hello.revision]
            if len(log) < hello.revision:
                with open_when_ready(again.socket) as late:
                    log += logged(late, start=len(log) + 1, last=hello.revision)
            judge = Judge(Model(), log, found, compact_revision=link.call(Status()).compact_revision)
            ended = [journal.read(home / "traces" / f"{number}.journal")[0] for number in range(plan.writers)]
            judge.judge([deed for deeds in ended for deed in deeds])
            judge.judge_entries(listed(link, judge.last))
    assert not found, f"wrong without any power cut: {found.words}"
    batches = [_decode_event(body).changes for body in log]
    return Truth(hello.epoch, batches, standing(batches))


def standing(batches: list[list[Change]]) -> list[dict[str, tuple[Any, int, int, int]]]:
    """What stood after each revision; the first is that of revision 0."""
    found: list[dict[str, tuple[Any, int, int, int]]] = [{}]
    for changes in batches:
        after = dict(found[-1])
        for change in changes:
            if change.kind == "put":
                after[change.key] = (change.value, change.version, change.create_revision, change.mod_revision)
            else:
                after.pop(change.key, None)
        found.append(after)
    return found


def _was_done(event: Event, state: Path) -> bool:
    """Whether a call was carried out before the kill that came in the middle of it."""
    path = state / event.path
    if event.kind == "write":
        return path.exists() and path.read_bytes()[event.offset : event.offset + len(event.data)] == event.data
    if event.kind in ("size", "opened"):
        return path.exists() and path.stat().st_size == event.offset
    if event.kind in ("unlink", "rmdir", "rename"):
        return not path.exists()
    return event.kind in ("create", "mkdir") and path.exists()


def _compare(disk: Disk, state: Path) -> None:
    """What the model holds for the present content is what is there."""
    modelled = {path: content for path, content in disk.whole().files() if content is not None}
    there = {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}
    for name in MEANINGLESS:
        there.pop(name, None)
    if modelled.keys() != there.keys():
        raise Unreadable(f"the trace has {sorted(modelled)}, there are {sorted(there)}")
    for path, content in there.items():
        if modelled[path] != content:
            raise Unreadable(f"the trace has another content of {path}: {len(modelled[path])} of {len(content)} bytes")


def _configure(home: Path) -> None:
    """A short log window, so that it is trimmed as well."""
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text("[limits]\nlog_window_revisions = 100\n", encoding="utf-8")
    (home / "config" / "config.toml").chmod(0o600)


class _Writing:
    """A writer of the kill loop in a thread."""

    def __init__(self, socket: Path, directory: Path, number: int, plan: Plan) -> None:
        workload = Workload(number, writers=plan.writers, seed=plan.seed)
        self._writer = Writer(socket, directory, workload, plan.writers)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._writer.run()
        except (CosessionError, LinkLost) as error:
            self._error = error

    def end(self) -> None:
        """Nothing in doubt any more. Raises AssertionError."""
        self._writer.stopping = True
        self._thread.join(FINISH_S)
        assert not self._thread.is_alive(), "a writer does not come to an end"
        assert self._error is None, f"a writer ended: {self._error}"


@contextlib.contextmanager
def _writing(socket: Path, directory: Path, number: int, plan: Plan) -> Iterator[_Writing]:
    writing = _Writing(socket, directory, number, plan)
    try:
        yield writing
    finally:
        writing._writer.stopping = True
