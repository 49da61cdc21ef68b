"""Processes that are forked from one that has imported everything already: a daemon so begins in a tenth of the time.

    process = zygote.start("cosessiond.__main__", [], env=env, out=file)     # None: not here; use subprocess

The zygote is a process of its own, with one thread and nothing open but the line to whoever started it; it imports what
is asked for once, and from then on forks. What is forked runs `main(arguments)` of the module as if it had been started
with it: own session, environment, working directory and descriptors. `/proc` shows the command and the first
environment of the zygote.

Rule: who started it is told how a process ended, as of a child of its own; the zygote ends with who started it.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))

_REQUEST_BYTES_MAX: Final = 1 << 18
_FIRST_FREE: Final = 3  # behind standard error
_STOPPED_S: Final = 30.0


#: What a daemon imports only when it runs.
LOADED: Final = ("cosession.configfile", "cosessiond.app", "cosessiond.process.logs", "cosessiond.process.sd_notify")


def available() -> bool:
    """Whether this system has what it takes, and nobody measures what a whole process does."""
    return hasattr(os, "pidfd_open") and "COVERAGE_PROCESS_CONFIG" not in os.environ


class Forked:
    """One process, with the words of `subprocess.Popen` that a test needs."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.pid = int(self._told(None))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code (-N when signal N ended it). Raises TimeoutExpired."""
        if self.returncode is None:
            try:
                self.returncode = int(self._told(timeout))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0.0) from None
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Harmless when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _told(self, timeout: float | None) -> bytes:
        self._line.settimeout(timeout)
        said = self._line.recv(32)
        assert said, "the zygote has ended"
        return said


class _Zygote:
    """The zygote of this process, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._owner = 0

    def start(self, request: Mapping[str, Any], out: int, err: int) -> Forked:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._lock, theirs:
            given = array.array("i", [theirs.fileno(), out, err])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)]
            self._opened().sendmsg([json.dumps(request).encode()], rights)
        return Forked(mine)

    def _opened(self) -> socket.socket:
        if self._line is None or self._owner != os.getpid():
            self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _REQUEST_BYTES_MAX)
            self._owner = os.getpid()
            with theirs:
                command = [sys.executable, "-P", str(Path(__file__).resolve()), str(theirs.fileno())]
                zygote = subprocess.Popen(
                    command, cwd="/", stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            atexit.register(self._end, zygote, self._line)
        return self._line

    @staticmethod
    def _end(zygote: subprocess.Popen[bytes], line: socket.socket) -> None:
        line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            zygote.wait(10.0)


_ZYGOTE: Final = _Zygote()


def start(
    module: str, arguments: Sequence[str], *, env: Mapping[str, str], out: IO[bytes], is_stopped: bool = False
) -> Forked:
    """Fork a process that runs `main(arguments)` of `module`, with its output in `out`. `is_stopped`: it waits for
    SIGCONT before it begins, and is stopped when this returns.
    """
    request = {
        "module": module,
        "loaded": LOADED,
        "arguments": list(arguments),
        "env": dict(env),
        "is_stopped": is_stopped,
    }
    process = _ZYGOTE.start(request, out.fileno(), out.fileno())
    deadline = time.monotonic() + _STOPPED_S
    while is_stopped and "\nState:\tT" not in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"):
        assert time.monotonic() < deadline, f"pid {process.pid} does not stop"
        time.sleep(0.001)
    return process


class Traced:
    """A process that strace was attached to before it began: what it imports is not traced, which is most of a start
    that is. `wait` returns when the trace is whole.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], *, env: Mapping[str, str], out: IO[bytes], strace: Sequence[str]
    ) -> None:
        self._process = start(module, arguments, env=env, out=out, is_stopped=True)
        self.pid = self._process.pid
        command = [*strace, "-p", str(self.pid)]
        self._tracer = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        deadline = time.monotonic() + _STOPPED_S
        while "\nTracerPid:\t0\n" in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii"):
            if self._tracer.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError(f"strace cannot be attached: {' '.join(command)}")
            time.sleep(0.001)
        self.send_signal(signal.SIGCONT)

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises TimeoutExpired."""
        code = self._process.wait(timeout)
        self._tracer.wait(_STOPPED_S)
        return code

    def send_signal(self, sig: int) -> None:
        """To the process, and not to strace."""
        self._process.send_signal(sig)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


# -- the zygote --------------------------------------------------------------------------------------------------------


def _serve(line: socket.socket) -> None:
    """Until the other end is closed."""
    ready = selectors.DefaultSelector()
    ready.register(line, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.data is not None:
                _reap(ready, key)
                continue
            message, rights, _, _ = line.recvmsg(_REQUEST_BYTES_MAX, socket.CMSG_SPACE(3 * 4))
            if not message:
                return
            descriptors = array.array("i")
            descriptors.frombytes(rights[0][2])
            _fork(ready, json.loads(message), list(descriptors))


def _fork(ready: selectors.BaseSelector, request: dict[str, Any], descriptors: list[int]) -> None:
    told, out, err = descriptors
    module = importlib.import_module(request["module"])
    for name in request["loaded"]:
        importlib.import_module(name)
    gc.freeze()
    pid = os.fork()
    if not pid:
        _become(module, request, out, err)
    os.write(told, str(pid).encode())
    os.close(out)
    os.close(err)
    ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _reap(ready: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pid, told = key.data
    ready.unregister(key.fileobj)
    os.close(key.fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it any more
        os.write(told, str(code).encode())
    os.close(told)


def _become(module: Any, request: dict[str, Any], out: int, err: int) -> NoReturn:
    """The process that was asked for. The objects of the zygote stay, and with them nothing of what they had open."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(_FIRST_FREE, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = [request["module"], *request["arguments"]]
        _may_be_traced()
        if request["is_stopped"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        code = module.main(request["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does it at the end of a program
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _may_be_traced() -> None:
    """By whoever likes, where a system lets only a parent."""
    import ctypes

    pr_set_ptracer, any_ = 0x59616D61, ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(pr_set_ptracer, any_, 0, 0, 0)


if __name__ == "__main__":
    import asyncio  # noqa: F401
    import ctypes  # noqa: F401 - before the first fork

    _serve(socket.socket(fileno=int(sys.argv[1])))
