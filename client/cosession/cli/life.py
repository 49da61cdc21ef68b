"""`cosession start`, `stop`, `restart`: the daemon's life by hand.

`stop` leaves a latch (the file `stopped`) that keeps clients from starting the daemon again for a while; an explicit
`start` removes it. Everyone else may start the daemon, so stopping it without the latch would stop nothing.

Rule: returns when it is so: after `start` the daemon answers, after `stop` its process is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

from cosession import paths
from cosession.cli import holder, render, unit
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.progress import Progress
from cosession.errors import CosessionError, TimedOut, UnknownOutcome, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

POLL_S = 0.02
#: How long a daemon may take to leave once it has closed its socket.
LEAVING_S = 5.0


def run_start(given: Given) -> int:
    """Start the daemon unless it runs; print its pid and socket."""
    refuse_no_spawn(given)
    found, force = answer(given), given.flag("--force")
    if found is not None and force and Line(given, spawn=False).ask("status", {})["read_only"]:
        stop(given)
        found = None
    _report_started(given, found or start(given, force=force), already=found is not None)
    return 0


def run_stop(given: Given) -> int:
    """Stop the daemon and wait for its end; that none was running is fine."""
    pid = stop(given)
    if given.flag("--json"):
        render.json_line({"stopped": pid != 0, "pid": pid})
    elif pid:
        render.line(f"stopped (pid {pid}); clients will not start it again for 30 s, `cosession start` does at once")
    else:
        render.line("no daemon was running")
    return 0


def run_restart(given: Given) -> int:
    """Stop if it runs, then start; one that could not start again is not stopped."""
    from cosession.configfile import load

    refuse_no_spawn(given)
    load(Path(paths.config_file()))
    if (supervisor := unit.installed(given)) is not None:  # its socket stays: nobody is turned away meanwhile
        forget_stop()
        supervisor.restart(given.timeout_s())
        _report_started(given, Line(given, spawn=False).ask("ping", {}), already=False)
        return 0
    stop(given)
    _report_started(given, start(given), already=False)
    return 0


def refuse_no_spawn(given: Given) -> None:
    """For verbs that end with a daemon that runs."""
    if given.flag("--no-spawn"):
        raise usage_error(given.verb, "--no-spawn forbids what it is for")


def answer(given: Given) -> dict[str, Any] | None:
    """The daemon's answer to a ping, None when none is running."""
    try:
        return Line(given, spawn=False).ask("ping", {})
    except Unreachable as error:
        if error.data.get("running") is False:
            return None
        raise


def start(given: Given, *, force: bool = False) -> dict[str, Any]:
    """Start it and return its answer to a ping. An explicit start goes before the latch and COSESSION_NO_SPAWN.
    `force`: it writes again, though its disk has failed.
    """
    from cosession.cli import starting

    env = {name: value for name, value in os.environ.items() if name != "COSESSION_NO_SPAWN"}
    if given.text("--socket"):
        env["COSESSION_SOCKET"] = given.text("--socket")
    forget_stop()
    if (supervisor := unit.installed(given)) is not None:
        with Progress(given, "waiting for the service manager"):
            supervisor.start(given.timeout_s(), arguments="--force" if force else "")
        return Line(given, spawn=False).ask("ping", {})
    deadline = time.monotonic() + given.timeout_s()
    starting.connected(given, "", deadline, spawn=True, force=force, env=env).close()
    return Line(given, spawn=False).ask("ping", {})


def forget_stop() -> None:
    """Whoever starts it on purpose ends the time in which clients leave it stopped."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        Path(paths.stop_latch()).unlink()


def _report_started(given: Given, answer: dict[str, Any], *, already: bool) -> None:
    path = Line(given, spawn=False).path
    if given.flag("--json"):
        render.json_line({"started": not already, "pid": answer["pid"], "version": answer["version"], "socket": path})
    else:
        render.line(f"{'already running' if already else 'started'}: pid {answer['pid']}, socket {render.escape(path)}")


def stop(given: Given) -> int:
    """Stop the daemon if there is one and wait until its process has gone; its pid, 0 when there was none."""
    if ended := _stop_unit(given):
        return ended
    line = Line(given, spawn=False)
    try:
        status = line.ask("status", {})
    except Unreachable as error:
        if error.data.get("running") is False:
            return _await_mute(given, line)
        raise
    pid: int = status["pid"]
    end = End(pid, line)
    try:
        _latch(Path(status["state_directory"], Path(paths.stop_latch()).name))
        with contextlib.suppress(Unreachable, UnknownOutcome):  # it has gone meanwhile, which is what was wanted
            line.ask_once("admin.stop", "{}")
        timeout_s = given.timeout_s()
        with Progress(given, "waiting for the daemon to finish what is in flight"):
            ended = end.wait(timeout_s)
        if not ended:
            raise TimedOut(
                f"cannot stop the daemon: pid {pid} is still there after {timeout_s:g} s; do: wait longer with "
                f"--timeout S, or {holder.end_of(pid, '-9 ')}",
                data={"pid": pid},
            )
    finally:
        end.close()
    return pid


def _stop_unit(given: Given) -> int:
    """Have the service manager stop the daemon, and its socket first, by which it would start it again; the pid, 0
    when it ran none or there is no unit.
    """
    supervisor = unit.installed(given)
    if supervisor is None:
        return 0
    try:
        pid = supervisor.report().pid
        _latch(Path(paths.stop_latch()))  # the manifest lies in the same directory
        with Progress(given, "waiting for the service manager"):
            supervisor.stop(given.timeout_s())
    except Unreachable:
        return 0  # there is no service manager now, and so no daemon of its own
    return pid


@contextlib.contextmanager
def stopped(given: Given, *, is_running: bool) -> Iterator[None]:
    """While something is done to the files of the store: no daemon runs. One that did runs again afterwards, whatever
    happened.
    """
    if not is_running:
        yield
        return
    refuse_no_spawn(given)
    stop(given)
    try:
        yield
    except BaseException:
        with contextlib.suppress(CosessionError):  # what went wrong first is what is told
            start(given)
        raise
    start(given)


def _await_mute(given: Given, line: Line) -> int:
    """Nobody answers: wait for the daemon that is just leaving, if one is; its pid, 0 when there is none."""
    named = given.text("--socket")
    mute = holder.living_holder()
    if mute is None or (named and named != mute.socket):
        return 0
    end = End(mute.pid, line)
    try:
        with Progress(given, "waiting for the daemon that is ending"):
            ended = end.wait(min(LEAVING_S, given.timeout_s()))
        if ended:
            return mute.pid
    finally:
        end.close()
    raise Unreachable(f"cannot stop the daemon: {holder.mute(mute)}", data={"pid": mute.pid})


def _latch(path: Path) -> None:
    """Leave the word that the daemon was stopped on purpose, now."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


class End:
    """The end of a process that is no child of ours: pidfd, kqueue, or else nobody answering on the socket."""

    def __init__(self, pid: int, line: Line) -> None:
        self._line = line
        self._pidfd = -1
        self._kqueue: Any = None
        bsd: Any = select  # the names that only BSD and macOS have
        try:
            if hasattr(os, "pidfd_open"):
                self._pidfd = os.pidfd_open(pid)
            elif hasattr(bsd, "kqueue"):
                self._kqueue = bsd.kqueue()
                exits = bsd.kevent(pid, bsd.KQ_FILTER_PROC, bsd.KQ_EV_ADD, bsd.KQ_NOTE_EXIT)
                self._kqueue.control([exits], 0)
        except OSError:  # not to be seen from here: another namespace, or gone
            self.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for it; False when it is still there after all the time."""
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        if self._kqueue is not None:
            return bool(self._kqueue.control(None, 1, timeout_s))
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._line.close()
            self._line.again()
            try:
                self._line.ask("ping", {})
            except Unreachable:
                return True
            time.sleep(POLL_S)
        return False

    def close(self) -> None:
        """Let go of the descriptors."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._kqueue is not None:
            self._kqueue.close()
            self._kqueue = None


START = Verb(
    "start",
    "",
    run_start,
    summary="Start the daemon and print its pid and socket; fine when it is already running.",
    text="Clients start it by themselves when they need it, except in the 30 s after a stop; this ends those too.\n"
    "One whose disk has failed three times within 10 minutes comes back read-only; when the disk is well, --force\n"
    "starts one that writes again.",
    options=(Option("--force", "", "write again after failures of the disk"),),
    examples=(
        ("cosession start", "start it now"),
        ("cosession start --force", "end the read-only mode that status shows"),
        ("cosession start --json", '{"started": true, "pid": ..., "socket": ...}'),
    ),
)

STOP = Verb(
    "stop",
    "",
    run_stop,
    summary="Stop the daemon in order and wait until its process is gone; fine when none is running.",
    text="What is in flight is answered first. Clients will not start it again by themselves for 30 s.",
    examples=(("cosession stop", "stop it"),),
)

RESTART = Verb(
    "restart",
    "",
    run_restart,
    summary="Stop the daemon if it runs, and start it.",
    text="Clients reconnect, sessions attach again and watches go on where they were. With a\n"
    "configuration that cannot be used it is refused (exit code 78) and the daemon goes on; see `config check`.",
    examples=(("cosession restart", "after an upgrade, for instance"),),
)
