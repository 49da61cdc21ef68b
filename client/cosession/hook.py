"""The hook: one event of an AI client goes to the daemon, and what the daemon answers goes to the client, unread.

It costs little more than starting an interpreter: no module but `_socket` and built-in ones, one frame there, one
answer back, no parsing. The daemon reads the event and renders what the client is to print. Whatever goes wrong, the
client goes on: exit code 0 and a note that nothing was checked, in at most 300 ms.

Run as `python -I -S hook.py CLIENT EVENT [SOCKET]` with the event on standard input, or as `cosession hook`.

A frame: byte 1 and `cs1`, the sizes of client, event (1 byte each), facts (2), payload (4, big-endian), then these.
An answer: `cs`, an exit code, flags, the size of what follows (4 bytes), and that. A daemon that does not know the
session yet answers with the flag MORE; then the event is sent again with what is known of the place it happened in.

Rule: standard library only, self-contained, never a traceback; imports beyond the first lines happen only where the
event is the first of its session, or something is wrong.
"""

# ruff: noqa: PTH100, PTH120  # pathlib costs more to import than this module to run
from __future__ import annotations

import posix
import sys
import time

PREFIX = b"\x01cs1"
ANSWER = b"cs"
#: Flags of an answer: send again with facts; what follows is a note and no output.
MORE, NOTE = 1, 2
DEADLINE_S = 0.3
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
ANSWER_BYTES_MAX = 1024 * 1024
#: What is read and thrown away of a longer event, so that the client can finish writing it.
DRAINED_BYTES_MAX = 64 * 1024 * 1024
FACTS_BYTES_MAX = 16 * 1024
_CHUNK_BYTES = 64 * 1024
_ENVIRON = posix.environ


def main(arguments: list[str]) -> int:
    """Hand on one event and print what is to be printed; the exit code. See `answer`."""
    code, output = answer(arguments)
    _write(output)
    return code


def answer(arguments: list[str]) -> tuple[int, bytes]:
    """Hand on one event; exit code and output. `arguments`: client, event, and the socket unless it is to be found."""
    until_s = time.monotonic() + DEADLINE_S
    client, event = [*arguments, "", ""][:2]
    if _ENVIRON.get(b"COSESSION_OFF", b"") not in (b"", b"0"):
        return _note("off (COSESSION_OFF is set): this was not checked")
    try:
        payload, is_cut = _standard_input()
        path = _path(arguments)
        frame = _frame(client, event, b"too_long=1" if is_cut else b"", payload)
        code, flags, output = _ask(path, frame, until_s)
        if flags & MORE:
            frame = _frame(client, event, _facts(payload, is_cut=is_cut), payload)
            code, flags, output = _ask(path, frame, until_s + DEADLINE_S)
    except Exception as error:  # noqa: BLE001  # whatever it is, the client goes on
        return _failed(client, event, error)
    if flags & NOTE:
        return _note(output.decode("utf-8", "replace"))
    return code, output


def _standard_input() -> tuple[bytes, bool]:
    """The event, and whether it was too long to be taken: then it is empty."""
    chunks: list[bytes] = []
    size = 0
    while size < DRAINED_BYTES_MAX:
        chunk = posix.read(0, _CHUNK_BYTES)
        if not chunk:
            break
        size += len(chunk)
        if size <= PAYLOAD_BYTES_MAX:
            chunks.append(chunk)
    return (b"", True) if size > PAYLOAD_BYTES_MAX else (b"".join(chunks), False)


def _frame(client: str, event: str, facts: bytes, payload: bytes) -> bytes:
    named, happened = client.encode()[:255], event.encode()[:255]
    sizes = bytes((len(named), len(happened))) + len(facts).to_bytes(2, "big") + len(payload).to_bytes(4, "big")
    return PREFIX + sizes + named + happened + facts + payload


def _ask(path: str, frame: bytes, until_s: float) -> tuple[int, int, bytes]:
    """Exit code, flags and output of the daemon's answer. Raises OSError for whatever goes wrong."""
    import _socket  # the one module that is no part of a bare interpreter

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        _limit(sock, until_s)
        sock.connect(path)
        _check_peer(sock, _socket)
        sock.sendall(frame)
        head = _receive(sock, 8, until_s)
        size = int.from_bytes(head[4:8], "big")
        if head[:2] != ANSWER or size > ANSWER_BYTES_MAX:
            raise OSError("the daemon does not know this hook: run `cosession restart`")
        return head[2], head[3], _receive(sock, size, until_s)
    finally:
        sock.close()


def _limit(sock: object, until_s: float) -> None:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise OSError(f"no answer within {DEADLINE_S:g} s")
    sock.settimeout(left_s)  # type: ignore[attr-defined]


def _receive(sock: object, size: int, until_s: float) -> bytes:
    data = b""
    while len(data) < size:
        _limit(sock, until_s)
        chunk = sock.recv(min(size - len(data), _CHUNK_BYTES))  # type: ignore[attr-defined]
        if not chunk:
            raise OSError("the daemon closed the connection")
        data += chunk
    return data


def _check_peer(sock: object, module: object) -> None:
    """Not a byte goes to another user's daemon. Raises OSError."""
    option = getattr(module, "SO_PEERCRED", None)
    if option is not None:
        raw = sock.getsockopt(module.SOL_SOCKET, option, 12)  # type: ignore[attr-defined]
        uid = int.from_bytes(raw[4:8], sys.byteorder)
    else:  # macOS: struct xucred begins with a version and the uid; LOCAL_PEERCRED is 1 at level 0
        uid = int.from_bytes(sock.getsockopt(0, 1, 76)[4:8], sys.byteorder)  # type: ignore[attr-defined]
    if uid != posix.geteuid():
        raise OSError(f"the socket belongs to uid {uid}")


def _path(arguments: list[str]) -> str:
    """The socket: as the caller says, else where the environment says, else where it is by the rules of `paths`."""
    if len(arguments) > 2:  # noqa: PLR2004 - behind client and event
        return arguments[2]
    _reach_package()
    from cosession.paths import socket_path

    return socket_path()


def _facts(payload: bytes, *, is_cut: bool) -> bytes:
    """What the daemon cannot find out by itself: `name=value` pairs with a NUL between."""
    import json

    _reach_package()
    from cosession import project

    try:
        told = json.loads(payload).get("cwd")
    except (ValueError, AttributeError, RecursionError):
        told = None
    directory = told if isinstance(told, str) and told else "."
    facts = {
        "project": project.project_of(directory),
        "worktree": project.worktree_of(directory),
        "branch": project.branch_of(directory),
        "too_long": "1" if is_cut else "",
    }
    named = b"\0".join(f"{name}={value}".encode("utf-8", "replace") for name, value in facts.items() if value)
    return named if len(named) <= FACTS_BYTES_MAX else b""


def _reach_package() -> None:
    """Where `-I -S` left out the directories of packages, the one that this module is in counts."""
    import os

    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if above not in sys.path:
        sys.path.append(above)


def _failed(client: str, event: str, error: Exception) -> tuple[int, bytes]:
    """The action goes on; the note says why nothing was checked. A session that begins has the daemon started."""
    import os

    if event == "SessionStart" and isinstance(error, (FileNotFoundError, ConnectionRefusedError)) and not _forbidden():
        _start()
        return _note("the daemon was not running and is being started: this session is known from its next event on")
    where = _sandbox(os.environ)
    if isinstance(error, PermissionError) and where:
        return _note(f"{where} forbids the socket, so {client or 'this client'} was not checked")
    if isinstance(error, TimeoutError):
        return _note(f"not checked: no answer within {DEADLINE_S:g} s; see `cosession status`")
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _note(f"not checked: {why}; see `cosession status`")


def _sandbox(environ: object) -> str:
    if environ.get("CODEX_SANDBOX_NETWORK_DISABLED") or environ.get("CODEX_SANDBOX"):  # type: ignore[attr-defined]
        return "Codex's sandbox"
    return "Claude Code's sandbox" if environ.get("SANDBOX_RUNTIME") else ""  # type: ignore[attr-defined]


def _forbidden() -> bool:
    import os

    return os.environ.get("COSESSION_NO_SPAWN", "") not in ("", "0") or bool(_sandbox(os.environ))


def _start() -> None:
    """Start the daemon and wait for nothing: it takes longer than a hook may."""
    import os

    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = f"import sys; sys.path.append({above!r}); from cosession.cli.main import main; sys.exit(main(['start']))"
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    try:
        posix.posix_spawn(
            sys.executable,
            [sys.executable, "-c", program],
            os.environ,
            file_actions=[null, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)],
            setsid=True,
        )
    except OSError:
        return  # the note that it is being started is too hopeful then; the next event says what is wrong


def _note(text: str) -> tuple[int, bytes]:
    """What the user of the client sees, in the form that Claude Code and Codex read."""
    import json

    return 0, json.dumps({"systemMessage": f"cosession: {text}"}).encode() + b"\n"


def _write(data: bytes) -> None:
    while data:
        try:
            data = data[posix.write(1, data) :]
        except OSError:
            return  # the client reads no more; there is nobody to tell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
