"""One question to the daemon and its answer, as a line of JSON each: what every verb but the lasting ones runs on.

`Line` connects (starting a daemon when none is there and that is allowed), checks that the peer is the same user before
it says a word, asks, and asks again under the same request id when the connection breaks before the answer.

Rule: the standard library's C parts only. The library is imported when a daemon has to be started, never before.
"""

from __future__ import annotations

import _socket
import os
from errno import EAGAIN, ECONNREFUSED, ENOENT, ENOTDIR
from time import monotonic, sleep

from cosession import paths, retries
from cosession.cli import data
from cosession.errors import (
    CosessionError,
    InvalidRequest,
    NotAllowed,
    TimedOut,
    UnknownOutcome,
    Unreachable,
    error_from,
)
from cosession.peer import pid_of, uid_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cosession.cli.options import Given
    from cosession.retries import Kind

#: `messages.limits.SENT_FRAME_BYTES_MAX`, which is not light: a page of control characters takes six bytes for each.
ANSWER_BYTES_MAX = 8 * 1024 * 1024
#: Seconds between two looks at a daemon whose queue of connections is full.
_QUEUE_FULL_S = 0.02
_READ_BYTES = 256 * 1024


class Broken(Exception):
    """The connection ended before the answer came."""


class _Unreadable(CosessionError):
    """An answer came and cannot be read, so it tells nothing about what the daemon did."""


class Line:
    """A connection for one command. `spawn`: start a daemon when there is none, unless the user forbids it.

    `timeout_s`: how long to wait where that is not for the user to say.
    """

    def __init__(self, given: Given, *, spawn: bool = True, timeout_s: float = 0.0) -> None:
        self._given = given
        self._timeout_s = timeout_s or given.timeout_s()
        self._deadline = monotonic() + self._timeout_s
        self._spawns = spawn
        self._may_spawn = spawn and not given.flag("--no-spawn")
        self._named = given.text("--socket")
        self._proof = _proof(given.text("--session"))
        self.path = self._named or paths.socket_path()
        self._socket: _socket.socket | None = None
        self._connected_before = False
        self._in = bytearray()
        self._id = 0
        #: How to wait while a daemon starts, where not by sleeping under a progress bar.
        self._sleep: Callable[[float], None] | None = None

    def ask(
        self, method: str, params: dict[str, Any], *, members: str = "", kind: Kind = retries.READ
    ) -> dict[str, Any]:
        """The result of one call; raises the typed error the daemon answers.

        `members`: further parameters as the JSON text of an object without its braces. A call with a `request_id` is a
        write: it may be repeated under that id, and without an answer its outcome is unknown. Others must be reads, or
        of the `kind` that is given.
        """
        is_write = "request_id" in params
        about = {"request_id": params["request_id"]} if is_write else {}
        return self._ask(retries.WRITE if is_write else kind, method, json_of(params, members), about)

    def ask_once(self, method: str, text: str) -> dict[str, Any]:
        """The result of one call with parameters as JSON text; it may be a write, so what was sent is not repeated."""
        return self._ask(retries.ONCE, method, _one_line(text), {})

    def _ask(self, kind: Kind, method: str, text: str, about: dict[str, Any]) -> dict[str, Any]:
        """One call through its attempts. `about`: the data of an outcome that stays unknown."""
        attempts = retries.Attempts(kind)
        while True:
            failure: CosessionError | None = None
            try:
                self._connect()
                epoch = self._greet(kind)
                # A request id protects within one epoch only.
                if kind == retries.WRITE and not attempts.begin(epoch):
                    raise _unknown(method, "the store began another epoch meanwhile", about)
                attempts.sent()
                return self._call(method, text)
            except UnknownOutcome:
                self.close()
                raise
            except Broken:
                code = retries.LOST
            except CosessionError as error:
                failure = error
                code = "closed" if isinstance(error, _Unreadable) else error.code
            step, wait_s = attempts.after(code, jitter=jitter(), left_s=self._deadline - monotonic())
            if failure is None or step != retries.RAISE:
                self.close()
            if step == retries.RETRY:
                sleep(wait_s)
                continue
            why = failure.message if failure else self._lost(attempts.links_lost)
            if step == retries.UNKNOWN:
                raise _unknown(method, why, about) from None
            raise failure or Unreachable(
                f"cannot call {method}: {why}; see: cosession status", data={"path": self.path}
            )

    def again(self) -> None:
        """Give the next question the whole time again."""
        self._deadline = monotonic() + self._timeout_s

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._in.clear()

    def _greet(self, kind: Kind) -> str:
        """Say for whom this connection acts, where that matters; the epoch of the store, asked for by writes."""
        if kind in (retries.READ, retries.ASIDE) or (kind == retries.ONCE and not self._proof):
            return ""
        epoch: str = self._call("hello" if self._proof else "ping", self._proof or "{}")["epoch"]
        return epoch

    def _lost(self, times: int) -> str:
        often = "once" if times == 1 else f"{times} times"
        return f"the connection to {self.path} ended {often} before the answer"

    def _call(self, method: str, params: str) -> dict[str, Any]:
        """One call on the open connection; raises Broken when it ends, else what the daemon says against it."""
        self._id += 1
        call = f'{{"jsonrpc":"2.0","id":{self._id},"method":{data.dumps(method)},"params":{params}}}\n'
        try:
            message = call.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("cannot send the call: an argument is not valid UTF-8; check its encoding") from None
        self._send(message)
        while True:
            answer = self._receive()
            if answer.get("id") != self._id and ("method" in answer or answer.get("id") is not None):
                continue  # an event, a goodbye, or the late answer to a call given up
            if "error" not in answer:
                result: dict[str, Any] = answer["result"]
                return result
            raise _error(answer["error"])

    def _send(self, message: bytes) -> None:
        assert self._socket is not None, "connected before"
        try:
            self._socket.settimeout(self._left_s("send"))
            self._socket.sendall(message)
        except TimeoutError:
            raise self._timed_out("send") from None
        except OSError:
            # What it said before it hung up (a refusal, for one) may still be there to read.
            if not self._in and not self._has_more():
                raise Broken from None

    def _receive(self) -> dict[str, Any]:
        seen = 0
        while (end := self._in.find(b"\n", seen)) < 0:
            seen = len(self._in)
            if seen > ANSWER_BYTES_MAX:
                why = f"cannot read the answer: over {ANSWER_BYTES_MAX} bytes; ask for fewer entries"
                raise _Unreadable(why, code="too_large")
            if not self._has_more():
                raise Broken
        message = bytes(self._in[:end])
        del self._in[: end + 1]
        try:
            answer = data.loads(message.decode())
        except ValueError as error:
            raise _Unreadable(f"cannot read the daemon's answer: {error}", code="parse_error") from None
        if not isinstance(answer, dict):
            raise _Unreadable("cannot read the daemon's answer: it is no object", code="parse_error")
        return answer

    def _has_more(self) -> bool:
        assert self._socket is not None, "connected before"
        try:
            self._socket.settimeout(self._left_s("read"))
            more = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise self._timed_out("read") from None
        except OSError:
            return False
        self._in += more
        return bool(more)

    def _left_s(self, what: str) -> float:
        left = self._deadline - monotonic()
        if left <= 0:
            raise self._timed_out(what)
        return left

    def _timed_out(self, what: str) -> TimedOut:
        from cosession.cli import holder

        why = {"send": "took no more", "read": "gave no answer", "connect": "took no connection"}[what]
        peer = pid_of(self._socket) if self._socket else 0
        return holder.silence(self.path, peer, f"{why} within {self._timeout_s:g} s")

    def _connect(self) -> None:
        """Open the connection if it is not."""
        while self._socket is None:
            peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                peer.settimeout(self._left_s("connect"))
                peer.connect(self.path)
                check_peer(peer, self.path)
                self._socket = peer
            except TimeoutError:
                raise self._timed_out("connect") from None
            except OSError as error:
                if error.errno == EAGAIN:  # its queue of connections is full
                    sleep(_QUEUE_FULL_S)
                elif error.errno in (ENOENT, ENOTDIR, ECONNREFUSED):
                    self._socket = self._connect_slowly()
                else:
                    raise _cannot_open(self.path, error) from None
            finally:
                if self._socket is not peer:
                    peer.close()
        self._connected_before = True

    def _connect_slowly(self) -> _socket.socket:
        """Nobody is at the path: look where the running daemon says it is, and start one where that is wanted."""
        from cosession.cli import starting

        again = self._connected_before and self._spawns
        try:
            how: dict[str, Any] = {"spawn": self._may_spawn, "again": again, "sleep": self._sleep}
            return starting.connected(self._given, self._named, self._deadline, **how)
        except Unreachable as error:
            if self._spawns or "elsewhere" in error.data:
                raise
        # A verb that only looks would never have started one: say so plainly.
        from cosession.cli import holder

        mute = holder.living_holder() if not self._named else None
        why = f"{holder.mute(mute)}, then: cosession start" if mute else "none is running; do: cosession start"
        raise Unreachable(f"cannot reach the daemon at {self.path}: {why}", data={"path": self.path, "running": False})


def check_peer(peer: _socket.socket, path: str) -> None:
    """Raise NotAllowed unless the process at the other end is of this user, by word of the kernel."""
    uid = uid_of(peer)
    if uid != os.geteuid():
        raise NotAllowed(f"cannot trust the daemon at {path}: it runs as uid {uid}, not as you; do: remove that socket")


def _cannot_open(path: str, error: OSError) -> Unreachable:
    """The socket is there and will not be opened; inside a sandbox that is the sandbox."""
    from cosession.reach import sandbox_of

    sandbox = sandbox_of(os.environ)
    advice = f"allow this path in the settings of {sandbox}" if sandbox else "see: cosession sockname"
    return Unreachable(f"cannot open the socket {path}: {error.strerror or error}; {advice}", data={"path": path})


def jitter() -> float:
    """A random number in [0, 1)."""
    return int.from_bytes(os.urandom(2), "big") / 65536


def request_id() -> str:
    """A fresh id for a write, so that it can be repeated without being done twice."""
    return os.urandom(16).hex()


def _proof(session: str) -> str:
    """What `hello` is told of the session of this command where the kernel cannot tell, "" without a session token."""
    session = os.environ.get("COSESSION_SESSION", "") or session
    session_token = os.environ.get("COSESSION_TOKEN", "")
    params = {"client": "cosession-cli", "session": session, "session_token": session_token}
    return data.dumps(params) if session and session_token else ""


def json_of(params: dict[str, Any], members: str) -> str:
    """Parameters as JSON text on one line; `members` are further ones, as text."""
    texts = [f"{data.dumps(name)}:{data.dumps(value)}" for name, value in params.items()]
    return "{" + ",".join([*texts, _one_line(members)] if members else texts) + "}"


def _one_line(text: str) -> str:
    """JSON text without line breaks, which are blanks in JSON and the end of a message on the wire."""
    return text.replace("\n", " ").replace("\r", " ")


def _error(body: dict[str, Any]) -> CosessionError:
    more = dict(body.get("data") or {})
    code = str(more.pop("code", "internal"))
    more.pop("retryable", None)
    return error_from(code, str(body.get("message", "")), more)


def _unknown(method: str, why: str, data: dict[str, Any]) -> UnknownOutcome:
    return UnknownOutcome(f"cannot tell whether the {method} was done: {why}; do: look before you repeat it", data=data)
