"""Reach the daemon: find its socket, check who answers, start the daemon where it is not running.

`opening` is the whole procedure as a generator that never blocks: it yields the seconds to wait and returns the
connected socket, so that the blocking and the asyncio client drive the same steps. Order: the socket; the socket that
the running daemon's lock names; a start, unless something forbids it, by the service manager where a unit is installed.
Many clients may do this at once: the daemon's lock picks one, the others' children exit with 75, and all end up
connected to the one.

(Not named `connect`: importing a module of that name would put it in the place of the function `cosession.connect`.)

Rule: not a byte is sent before the kernel has said that the peer runs as our user, and every wait has an end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from cosession import paths, peer
from cosession.errors import NotAllowed, Unreachable

if TYPE_CHECKING:
    import subprocess

LATCH_S: Final = 30.0
#: How long a client that was connected before waits for a daemon that was stopped on purpose: a restart takes less.
LATCH_PATIENCE_S: Final = 5.0
#: Seconds between two starts by one client, for the case that the daemon that had the lock was just leaving.
START_PAUSE_S: Final = 1.0
LOCK_BYTES_MAX: Final = 4096
STDERR_BYTES_MAX: Final = 8192
ALREADY_RUNNING: Final = 75
#: What a child may take to end in order: it has one of its own where it asks a service manager.
_ENDS_S: Final = 0.5
_TICKS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05)
_START: Final = "run: cosession start"
_NAMED: Final = "name the socket of a running daemon, or none"
#: What a start that failed counts as, by the exit code of the daemon: the same as if the daemon had been run by hand.
_START_CODES: Final = {70: "io_error", 78: "config"}

#: Variables of agents that run commands in a sandbox, where a daemon would end with it or see a different machine.
SANDBOXES: Final = {
    "SANDBOX_RUNTIME": "Claude Code's sandbox",
    "CODEX_SANDBOX": "Codex's sandbox",
    "CODEX_SANDBOX_NETWORK_DISABLED": "Codex's sandbox",
    "APP_SANDBOX_CONTAINER_ID": "a macOS app sandbox",
}
#: What of our environment a daemon gets that we start: it outlives us and serves others.
_KEPT: Final = ("HOME", "PATH", "LANG", "TMPDIR")
_KEPT_PREFIXES: Final = ("LC_", "XDG_", "COSESSION_")
_OURS_ALONE: Final = frozenset(
    {"COSESSION_TOKEN", "COSESSION_SESSION", "COSESSION_PROJECT", "COSESSION_OFF", "COSESSION_NO_SPAWN"}
)
_PLACES: Final = ("COSESSION_SOCKET", "COSESSION_HOME", "COSESSION_SPOOL")


class Target(Struct, frozen=True, kw_only=True):
    """Where the daemon is, and whether it may be started. `named`: the caller chose the socket, no other will do.
    `force`: one that is started writes again, though its disk has failed.
    """

    socket: str
    named: bool
    spawn: bool
    env: dict[str, str]
    force: bool = False


class _Lock(Struct):
    """What a daemon writes into its lock file, as far as clients care."""

    socket: str


def target_of(named: str | os.PathLike[str] | None, *, spawn: bool, env: Mapping[str, str] = os.environ) -> Target:
    """The target of a client; raises ConfigError for a socket path that cannot be."""
    if named is None:
        return Target(socket=paths.socket_path(env), named=False, spawn=spawn, env=dict(env))
    path = os.path.abspath(os.fspath(named))  # noqa: PTH100 - the text of a path, without resolving links
    paths.check_socket_path(path)
    return Target(socket=path, named=True, spawn=spawn, env=dict(env))


def opening(target: Target, deadline: float, *, again: bool = False) -> Generator[float, None, socket.socket]:
    """Yields seconds to wait; returns a connected, non-blocking socket of a daemon of ours.

    `deadline` is of `time.monotonic()`. `again`: this client was connected before, so the daemon may be on its way
    back and is waited for even where it may not be started. Raises Unreachable, NotAllowed (the daemon is not ours).
    """
    began = time.monotonic()
    starter = Starter(target)
    ticks = _ticks()
    try:
        while True:
            absence = "it is being started"
            if not starter.running:
                found, absence = _attempt(target)
                if found:
                    return found
            obstacle = "" if starter.running else start_obstacle(target, time.time())
            if not obstacle:
                starter.step()
            elif not again or (_is_latched(target, time.time()) and time.monotonic() > began + LATCH_PATIENCE_S):
                raise _unreachable(target, f"{absence}, and {obstacle}")
            left = deadline - time.monotonic()
            if left <= 0:
                why = f"{absence}, and {obstacle}" if obstacle else absence
                waited = f"waited {time.monotonic() - began:.1f} s"
                raise _unreachable(target, f"{why}; {waited}", advice=starter.refusal)
            yield min(next(ticks), left)
    finally:
        starter.close()


def start_obstacle(target: Target, wall_s: float) -> str:
    """Why this client must not start a daemon, "" when it may. `wall_s`: the wall clock, as file times are."""
    if target.named:
        return "a socket named by the caller starts nothing"
    if not target.spawn:
        return "starting it is forbidden (spawn=False or --no-spawn)"
    if target.env.get("COSESSION_NO_SPAWN", "0") not in ("", "0"):
        return "starting it is forbidden (COSESSION_NO_SPAWN)"
    sandbox = sandbox_of(target.env)
    if sandbox:
        return f"nothing is started from inside {sandbox}"
    if _is_latched(target, wall_s):
        return f"it was stopped on purpose less than {LATCH_S:g} s ago"
    return ""


def sandbox_of(env: Mapping[str, str]) -> str:
    """The sandbox this process seems to run in, "" for none."""
    return next((name for variable, name in SANDBOXES.items() if env.get(variable)), "")


def bound_socket(env: Mapping[str, str]) -> str:
    """Where the daemon that holds the lock listens, "" when the lock file does not say."""
    text = _read_own(paths.lock_file(env))
    try:
        found = msgspec.json.decode(text, type=_Lock).socket
    except (msgspec.MsgspecError, UnicodeError):
        return ""
    return found if found.startswith("/") else ""


def spawn_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a daemon started by a client with environment `env`; its places become absolute paths."""
    kept = {
        name: value
        for name, value in env.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES)) and name not in _OURS_ALONE
    }
    for name in _PLACES:
        if kept.get(name):
            kept[name] = os.path.abspath(kept[name])  # noqa: PTH100 - as paths.py does it
    return kept


def spawn_command() -> list[str]:
    """The command that starts a daemon with our own interpreter and returns once it is ready."""
    return [sys.executable, *_isolation(), "-m", "cosessiond", "--detach"]


def unit_command() -> list[str]:
    """The same where a service manager starts the daemon: the command asks it to, and returns once that is ready."""
    return [sys.executable, *_isolation(), "-m", "cosession.service.starting"]


class Starter:
    """At most one child at a time that starts the daemon, and what became of it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr = b""
        self._not_before = 0.0
        #: What a child said that found another daemon in its way, "" so far: the last word when none answers in time.
        self.refusal = ""

    @property
    def running(self) -> bool:
        """Whether a child is at it now."""
        return self._child is not None

    def step(self) -> None:
        """Start a child, or look at the one there is; never waits. Raises Unreachable when it failed for good."""
        if self._child is None:
            if time.monotonic() >= self._not_before:
                self._start()
            return
        code = self._child.poll()
        self._drain()
        if code is None:
            return
        self.close()
        self._not_before = time.monotonic() + START_PAUSE_S
        said = self._stderr.decode(errors="replace").strip()
        self.refusal = said.rpartition("cosessiond: ")[2] if code == ALREADY_RUNNING else ""
        if code not in (0, ALREADY_RUNNING):
            raise _cannot_start(code, said)

    def close(self) -> None:
        """Collect the child. One that is still at it is ended, by force if need be: the daemon it may have begun is not
        its descendant.
        """
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(OSError):
            child.terminate()
        try:
            child.wait(_ENDS_S)
        except _subprocess_timeout():
            child.kill()
            child.wait()
        if child.stderr:
            child.stderr.close()

    def _start(self) -> None:
        import subprocess

        if not sys.executable:
            raise Unreachable(f"cannot start the daemon: this program does not know its Python; {_START}")
        self._stderr = b""
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and our own package
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                close_fds=True,
                cwd="/",
                env=spawn_environment(self._target.env),
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(f"cannot start the daemon: {error}; {_START}") from error
        os.set_blocking(_pipe(self._child).fileno(), False)

    def _command(self) -> list[str]:
        if os.path.exists(paths.service_manifest(self._target.env)):  # noqa: PTH110 - one system call, no object
            return unit_command()
        return [*spawn_command(), *(["--force"] if self._target.force else [])]

    def _drain(self) -> None:
        """Read what the child has said so far, so that it never waits for us; the newest is kept."""
        assert self._child is not None
        pipe = _pipe(self._child)
        with contextlib.suppress(OSError):  # BlockingIOError: nothing now
            while data := os.read(pipe.fileno(), STDERR_BYTES_MAX):
                self._stderr = (self._stderr + data)[-STDERR_BYTES_MAX:]


def _attempt(target: Target) -> tuple[socket.socket | None, str]:
    """A connection, or None and why there is none yet."""
    found, absence = _connect(target, target.socket)
    if found or target.named:
        return found, absence
    elsewhere = bound_socket(target.env)
    if elsewhere and elsewhere != target.socket:
        found, _ = _connect(target, elsewhere)
    if found and target.env.get("COSESSION_SOCKET"):  # chosen by hand: no other will do
        found.close()
        why = f"{absence}, and the running daemon listens on {elsewhere}"
        error = _unreachable(target, why, advice="unset COSESSION_SOCKET (or drop --socket), or name that one")
        error.data["elsewhere"] = elsewhere
        raise error
    return found, absence


def _connect(target: Target, path: str) -> tuple[socket.socket | None, str]:
    sock = None
    uid = -1
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect(path)
        uid = peer.uid_of(sock)
    except OSError as error:
        return None, _absence(target, path, error)
    finally:
        if sock is not None and uid < 0:
            sock.close()
    if uid != os.geteuid():
        sock.close()
        raise NotAllowed(
            f"cannot trust the daemon on {path}: it runs as uid {uid}, not as yours ({os.geteuid()}); "
            "remove that socket, or set COSESSION_SOCKET",
            data={"path": path, "uid": uid},
        )
    return sock, ""


def _absence(target: Target, path: str, error: OSError) -> str:
    """Why nobody answers, where waiting or starting may help; raises Unreachable where it cannot."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "no socket is there"
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens on the socket"
    if error.errno in (errno.EAGAIN, errno.EINPROGRESS, errno.EINTR, errno.ECONNRESET, errno.ENOTCONN):
        return "the daemon takes no connection now"
    sandbox = sandbox_of(target.env)
    advice = (
        f"allow this path in the settings of {sandbox}" if sandbox else "check who may open it, see: cosession sockname"
    )
    raise Unreachable(
        f"cannot open the socket {path}: {error.strerror or error}; {advice}",
        data={"path": path, "sandbox": sandbox},
    ) from error


def _is_latched(target: Target, wall_s: float) -> bool:
    """Whether the daemon was stopped on purpose a moment ago (or in a future that a stepped clock made)."""
    try:
        stopped = os.stat(paths.stop_latch(target.env)).st_mtime  # noqa: PTH116 - one system call, no object
    except OSError:
        return False
    return abs(wall_s - stopped) < LATCH_S


def _read_own(path: str) -> bytes:
    """A small regular file of ours, b"" when it is anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return b""
        return os.read(descriptor, LOCK_BYTES_MAX)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _isolation() -> tuple[str, ...]:
    """Python's isolated mode; without hiding the user's own site-packages when that is where we are installed."""
    import site

    user = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    return ("-E", "-P") if user and __file__.startswith(user + os.sep) else ("-I",)


def _subprocess_timeout() -> type[Exception]:
    import subprocess

    return subprocess.TimeoutExpired


def _pipe(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stderr is not None, "started with a pipe"
    return child.stderr


def _ticks() -> Iterator[float]:
    yield from _TICKS_S
    while True:
        yield _TICKS_S[-1]


def _cannot_start(code: int, said: str) -> Unreachable:
    """The error for a child that ended with `code`; where the daemon said why, and what to do, that is said."""
    reason = said.removeprefix("cosessiond: ")
    if reason.startswith("cannot ") and "\n" not in reason:
        message = f"cannot start the daemon: it {reason}"
    else:
        message = f"cannot start the daemon: it ended with {code}: {said or 'it said nothing'}; run: cosessiond"
    return Unreachable(message, code=_START_CODES.get(code, "unreachable"), data={"exit_code": code, "stderr": said})


def _unreachable(target: Target, why: str, *, advice: str = "") -> Unreachable:
    return Unreachable(
        f"cannot reach the daemon at {target.socket}: {why}; {advice or (_NAMED if target.named else _START)}",
        data={"path": target.socket, "sandbox": sandbox_of(target.env)},
    )
