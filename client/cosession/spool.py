"""The spool: calls that a client leaves as files where it cannot reach the socket, for the daemon to take in later.

A file is two lines: a header, and the call as it would have gone over the socket. Its name is a sequence number and the
request id: the daemon takes the files of a session in the order of their numbers, and each exactly once, since the
request id makes a repeat of what it has committed do nothing. A file is made whole under another name, synced, and then
renamed, so that whoever looks finds all of it or nothing.

Nothing is checked when a call is spooled: not whether the daemon will take it, not what stands by then. So only calls
may be spooled that mean the same later: writes that rest on nothing, letters, and what a session did. Not what compares
(`expect_revision`, `fence`, `txn`), what ends with time or with its session (`ttl_s`, `ephemeral`), what asks (reads,
claims), nor what says who somebody is (sessions).

Who wrote it: the file system says which user, and a keyed hash under the session token of a session which of its
sessions. The token itself is in no file.

Rule: standard library only; it waits for nobody and needs no daemon.
"""

from __future__ import annotations

import contextlib
import os
import re

from cosession import paths
from cosession.errors import CosessionError, InvalidRequest, NotAllowed, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

#: What may be spooled, and what must not stand in it: it could not be kept later.
SPOOLABLE: Final[dict[str, tuple[str, ...]]] = {
    "put": ("expect_revision", "fence", "ttl_s", "ephemeral"),
    "delete": ("expect_revision", "fence"),
    "merge": ("expect_revision", "fence"),
    "add": ("expect_revision", "fence"),
    "append": ("expect_revision", "fence"),
    "mail.send": (),
}
#: Those that only a session can ask for.
OF_SESSIONS: Final = frozenset({"mail.send"})
#: A frame of the socket has at most so much; the header is on top.
CALL_BYTES_MAX: Final = 1024 * 1024
HEADER_BYTES_MAX: Final = 1024
#: Files that may wait: more than that are never taken in before somebody looks why.
FILES_MAX: Final = 10_000
#: Sequence number and request id.
NAME: Final = re.compile(r"([0-9]{16})-([A-Za-z0-9_.:-]{1,64})\.call")
#: What a file is called until it is whole; so the daemon knows what was never finished.
UNFINISHED: Final = ".unfinished-"
PROOF_BYTES: Final = 16
_SESSION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@-]{0,127}")


def write(
    method: str,
    params: str,
    *,
    request_id: str,
    session: str = "",
    session_token: str = "",
    env: Mapping[str, str] = os.environ,
) -> str:
    """Leave one call in the spool directory, durably; returns the path of its file.

    `params` is the JSON text of an object that has the `request_id`. `session` with its `session_token` is whom it acts
    for, "" for nobody. Raises InvalidRequest for what cannot be spooled, NotAllowed where it needs a session, TooLarge,
    CosessionError `overloaded` for a full spool, `disk_full` and `io_error`.
    """
    refuse(method, params)
    if not NAME.fullmatch(f"{0:016}-{request_id}.call"):
        raise InvalidRequest(
            f"cannot spool a call with request id {request_id[:64]!r}: it becomes the name of a file; use 1 to 64 of "
            "A-Z a-z 0-9 _ . : -"
        )
    if not session_token:
        session = ""
    if session and not _SESSION.fullmatch(session):
        raise InvalidRequest(f"cannot spool for session {session[:64]!r}: that can be the id of none; correct it")
    if method in OF_SESSIONS and not session:
        raise NotAllowed(
            f"cannot spool {method}: nobody cannot send, and only a session token proves a session from here; set "
            "COSESSION_SESSION and COSESSION_TOKEN"
        )
    text = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'
    try:
        call = _one_line(text).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"cannot spool {method}: an argument is not valid UTF-8; check its encoding") from None
    if len(call) > CALL_BYTES_MAX:
        raise TooLarge(
            f"cannot spool a call of {len(call)} bytes: the limit is {CALL_BYTES_MAX}; split it",
            data={"size": len(call), "limit": CALL_BYTES_MAX},
        )
    header = f'{{"spool":1,"session":"{session}","proof":"{proof(call, session_token) if session else ""}"}}\n'
    directory = paths.spool_directory(env)
    try:
        descriptor = _opened(directory)
    except OSError as error:
        raise _failed(directory, error) from None
    try:
        name = f"{_next_number(descriptor):016}-{request_id}.call"
        _place(descriptor, name, header.encode() + call + b"\n")
    except OSError as error:
        raise _failed(directory, error) from None
    finally:
        os.close(descriptor)
    return f"{directory}/{name}"


def refuse(method: str, params: str) -> None:
    """Raise InvalidRequest unless a call may be spooled."""
    if method not in SPOOLABLE:
        may = ", ".join(SPOOLABLE)
        raise InvalidRequest(f"cannot spool {method}: it must be answered; only {may} can wait")
    import json

    try:
        given: dict[str, Any] = json.loads(params)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"cannot spool {method}: its parameters are no JSON object: {error}") from None
    for name in SPOOLABLE[method]:
        if given.get(name):
            raise InvalidRequest(
                f"cannot spool {method} with `{name}`: nothing could be checked until the daemon takes it; leave it "
                "out, or reach the daemon"
            )
        if name == "expect_revision" and name in given:
            raise InvalidRequest(f"cannot spool {method} with `{name}`: it would be checked too late; leave it out")


def proof(call: bytes, session_token: str) -> str:
    """What proves that whoever wrote this call has the session token."""
    from hashlib import blake2b

    return blake2b(call, key=session_token.encode("utf-8", "surrogatepass")[:64], digest_size=PROOF_BYTES).hexdigest()


def waiting(env: Mapping[str, str] = os.environ) -> int:
    """How many calls wait in the spool directory; 0 when there is none."""
    try:
        return len(_names(paths.spool_directory(env)))
    except OSError:
        return 0


def _opened(directory: str) -> int:
    """The directory, made where it is not there, opened without following a link. It must be ours, and ours alone."""
    os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib is not light
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(descriptor)
        raise NotAllowed(
            f"cannot spool into {directory}: it must be a directory of yours with mode 0700; do: chmod 700 {directory}"
            ", or set COSESSION_SPOOL to another"
        )
    return descriptor


def _next_number(descriptor: int) -> int:
    """Behind all that wait. A file is there until what it says is committed, so numbers may begin anew when none is."""
    names = _names(descriptor)
    if len(names) >= FILES_MAX:
        raise CosessionError(
            f"cannot spool: {FILES_MAX} calls wait already; see whether the daemon takes them: cosession status",
            code="overloaded",
        )
    return 1 + max((int(name[:16]) for name in names), default=0)


def _names(directory: int | str) -> list[str]:
    return [name for name in os.listdir(directory) if NAME.fullmatch(name)]  # noqa: PTH208 - pathlib is not light


def _place(descriptor: int, name: str, data: bytes) -> None:
    unfinished = f"{UNFINISHED}{os.getpid()}-{name}"
    file = os.open(
        unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=descriptor
    )
    try:
        try:
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(unfinished, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished, dir_fd=descriptor)
        raise
    with contextlib.suppress(OSError):  # a file system that does not sync directories
        os.fsync(descriptor)


def _one_line(text: str) -> str:
    """JSON text without line breaks, which are blanks in JSON and the end of a call."""
    return text.replace("\n", " ").replace("\r", " ")


def _failed(directory: str, error: OSError) -> CosessionError:
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CosessionError(
        f"cannot spool into {directory}: {error.strerror or error}; "
        + ("free space" if full else "set COSESSION_SPOOL, for this and for the daemon, to a directory you may write"),
        code="disk_full" if full else "io_error",
        data={"path": directory},
    )
