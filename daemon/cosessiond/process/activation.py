"""The listening socket that a service manager opened for us: LISTEN_FDS of systemd, launch_activate_socket of launchd.

It stays open while no daemon runs, so that whoever connects meanwhile waits instead of being refused, and it is the
service manager's: it is neither bound nor unlinked here.

Rule: what was passed is taken once, and out of the environment; a socket that is not the one of this place is refused
with what mends it, since clients would look for it elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

from cosession.errors import ConfigError, CosessionError
from cosession.wire import JsonCodec, body_of

#: SD_LISTEN_FDS_START of sd_listen_fds(3).
_FIRST: Final = 3
_PASSED_MAX: Final = 16
#: The label of our agent, by which launchd names a job to itself, and the name of the socket in it.
LABEL: Final = "dev.cosession.daemon"
SOCKET_NAME: Final = "Listener"
_MEND: Final = "run: cosession service install"
#: Of those that wait when a start fails, so many are told why: as many as a backlog has.
_REFUSED_MAX: Final = 512


class Activation:
    """What was passed to this process. Raises ConfigError when that is no socket."""

    def __init__(self, env: MutableMapping[str, str] = os.environ) -> None:
        passed = _passed_by_systemd(env)
        if not passed and env.get("XPC_SERVICE_NAME") == LABEL:
            passed = passed_by_launchd(SOCKET_NAME)
        self._sockets: list[socket.socket] = []
        for descriptor in passed:
            try:
                os.set_inheritable(descriptor, False)
                self._sockets.append(socket.socket(fileno=descriptor))
                self._sockets[-1].setblocking(False)
            except OSError as error:
                raise ConfigError(
                    f"cannot serve: the service manager passed something that is no socket, {error}; {_MEND}"
                ) from None

    def listening_at(self, path: Path) -> socket.socket | None:
        """The socket to serve on, bound to `path`; None when nothing was passed. Raises ConfigError for another."""
        if not self._sockets:
            return None
        if len(self._sockets) != 1:
            count = len(self._sockets)
            raise ConfigError(f"cannot serve: the service manager passed {count} sockets, not one; {_MEND}")
        _check(self._sockets[0], path)
        return self._sockets[0]

    def refuse(self, error: CosessionError) -> None:
        """Tell all who wait on the socket why there will be no daemon: else they would wait for nothing, and the
        service manager would start us for them again and again.
        """
        word = JsonCodec().encode_error(None, body_of(error, 0))
        for listening in self._sockets:
            with contextlib.suppress(OSError):  # BlockingIOError: nobody waits any more
                for _ in range(_REFUSED_MAX):
                    client = listening.accept()[0]
                    with client, contextlib.suppress(OSError):  # it has hung up already
                        client.setblocking(False)
                        client.send(word)


def _passed_by_systemd(env: MutableMapping[str, str]) -> list[int]:
    pid, count = env.pop("LISTEN_PID", ""), env.pop("LISTEN_FDS", "")
    env.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    return list(range(_FIRST, _FIRST + min(int(count), _PASSED_MAX)))


def passed_by_launchd(name: str, library: Any = None) -> list[int]:
    """The descriptors of the agent's socket `name`, [] where there is none or no launchd. Never run on a Mac.

    `int launch_activate_socket(const char *name, int **fds, size_t *cnt)` of <launch.h>: 0, or an error number (ENOENT:
    no such name in the agent, ESRCH: not started by launchd, EALREADY: asked before); the array is the caller's to
    free.
    """
    import ctypes  # on this way alone: it costs more than the rest of the start

    library = library or ctypes.CDLL(None)
    activate = getattr(library, "launch_activate_socket", None)
    if activate is None:
        return []
    found, count = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t(0)
    code = activate(name.encode(), ctypes.byref(found), ctypes.byref(count))
    if code in (errno.ENOENT, errno.ESRCH):
        return []
    if code:
        raise ConfigError(f"cannot take over the socket of launchd: {os.strerror(code)}; {_MEND}")
    try:
        return [found[index] for index in range(min(count.value, _PASSED_MAX))]
    finally:
        library.free(found)


def _check(sock: socket.socket, path: Path) -> None:
    """Raises ConfigError unless it listens at `path` and nobody else may open it."""
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        raise ConfigError(f"cannot serve: the service manager passed no Unix stream socket; {_MEND}")
    if not _listens(sock):
        raise ConfigError(f"cannot serve: the service manager passed a socket that does not listen; {_MEND}")
    bound = sock.getsockname()
    if bound != os.fspath(path):
        raise ConfigError(f"cannot serve: the service manager listens on {bound}, clients look for {path}; {_MEND}")
    try:
        status = os.lstat(path)
    except OSError as error:
        raise ConfigError(f"cannot serve: {path} has gone ({error.strerror}); run: cosession service restart") from None
    if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
        raise ConfigError(f"cannot serve: {path} is not for its owner alone; {_MEND}")


def _listens(sock: socket.socket) -> bool:
    """Whether connections can be taken from it; where the system does not say, it is taken for one that listens."""
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return True
