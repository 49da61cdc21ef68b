"""`python -m cosessiond ACT ...`: reads the arguments, takes the lock, runs the act, says what came of it.

Standard output has one JSON object a line: `{"progress": {"what", "done", "total"}}`, any number of them, then
`{"result": {...}}` or `{"error": {"code", "message", "retryable", "data"}}`; the exit code is the catalogue's.

Rule: nothing but an error of the catalogue leaves an act; what it could not do is said in a sentence with what to do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from cosession import paths
from cosession._version import __version__
from cosession.errors import CosessionError, InvalidRequest
from cosessiond.clock import pause
from cosessiond.maintenance.task import Act, Task, say
from cosessiond.process.directories import private_directory, refuse_network_file_system
from cosessiond.process.lock import Holder, InstanceLock, read_holder
from cosessiond.process.neighbour import refuse_neighbour
from cosessiond.sessions import identity
from cosessiond.store.engine import StoreBroken

_PIPE_CLOSED: Final = 141
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def main(name: str, act: Act, arguments: Sequence[str]) -> int:
    """Run one act; returns the exit code."""
    os.umask(0o077)
    try:
        try:
            say({"result": _run(name, act, arguments)})
        except CosessionError as error:
            return _failed(error)
        except StoreBroken as error:
            return _failed(CosessionError(_with_remedy(str(error)), code="damaged"))
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            return _failed(_foreign(error))
    except BrokenPipeError:  # whoever started this has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _PIPE_CLOSED
    return 0


def _run(name: str, act: Act, arguments: Sequence[str]) -> dict[str, Any]:
    words, options = parse(name, act, arguments)
    state = Path(paths.state_directory())
    with ExitStack() as stack:
        stack.callback(os.close, state_fd := private_directory(state))
        if act.changes:
            refuse_network_file_system(state, state_fd)
            if not ("--dry-run" in options and not os.path.lexists(paths.lock_file())):
                stack.enter_context(_locked(Path(paths.lock_file()), name))
            refuse_neighbour(Path(paths.socket_path()))
        os.environ["SQLITE_TMPDIR"] = str(state)  # what SQLite keeps aside holds values: not in a place of others
        return act.run(Task(state, state_fd, words=words, options=options, say=say))


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """The lock, which names this act meanwhile. Afterwards the file is as it was: it is the trace of the last daemon,
    by which one sees how that has ended.
    """
    before, times = read_holder(path), path.lstat() if os.path.lexists(path) else None
    lock = InstanceLock(path, pause)
    try:
        lock.publish(_holder(name))
        yield
        if before is not None and times is not None:
            lock.publish(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns), follow_symlinks=False)
    finally:
        lock.release()


def parse(name: str, act: Act, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words and the options by name; raises InvalidRequest."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if argument == "--":
            words.extend(rest)
        elif not argument.startswith("-"):
            words.append(argument)
        elif option not in act.options or (equals and not act.options[option]):
            raise _usage(name, f"there is no option {argument!r}")
        elif act.options[option] and not equals:
            value = next(rest, "")
            if not value:
                raise _usage(name, f"{option} needs a value")
            options[option] = value
        else:
            options[option] = value
    low, high = act.words
    if not low <= len(words) <= high:
        raise _usage(name, f"it takes {low if low == high else f'{low} to {high}'} words, not {len(words)}")
    return words, options


def _usage(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot run `cosessiond {name}`: {why}; see: cosessiond --help")


def _holder(name: str) -> Holder:
    return Holder(
        pid=os.getpid(),
        start_time=identity.start_time(os.getpid()) or 0,
        boot_id=identity.boot_id(),
        version=__version__,
        act=name,
    )


def _failed(error: CosessionError) -> int:
    body = {"code": error.code, "message": error.message, "retryable": error.retryable, "data": error.data}
    say({"error": body})
    return error.exit_code


def _with_remedy(reason: str) -> str:
    return reason if "; " in reason else f"{reason}; see what can be saved: cosession rescue --dry-run"


def _foreign(error: OSError) -> CosessionError:
    where = f" {error.filename!r}" if error.filename else " a file"
    code = "disk_full" if error.errno in _FULL else "io_error"
    remedy = "free space on its disk" if code == "disk_full" else "see to its owner, mode and disk"
    return CosessionError(f"cannot use{where}: {error.strerror or error}; {remedy}", code=code)
