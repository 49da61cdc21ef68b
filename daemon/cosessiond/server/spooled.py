"""Calls out of the spool, carried out as if they had come over a connection, by the same handlers and the same checks.

Whom such a call acts for is proved by the keyed hash in its header: whoever made it had the session token. It may have
been written while its session lived and come when that has ended: it acts for it all the same. Without a session it is
nobody's. It says nothing of a process, so nothing is registered, held or renewed by it.

Rule: what may come this way is `cosession.spool.SPOOLABLE`; what is not is refused, whoever asks.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from cosession import wire
from cosession.errors import CosessionError, InvalidRequest, NotAllowed
from cosession.messages import Reply, Request
from cosession.messages.limits import RANGE_BYTES_MAX
from cosession.spool import SPOOLABLE, proof
from cosessiond.audit.records import Caller
from cosessiond.server.conversation import Call, Conversation
from cosessiond.server.core import Core
from cosessiond.server.table import Operation
from cosessiond.spool.directory import Aside, Spooled

Done = Callable[[CosessionError | None], None]
_CODEC: Final = wire.JsonCodec()
#: What the audit says of the process: there is none to name.
INSTANCE: Final = "spool"


class _Door:
    """What a call needs of its connection; answers go to `done`."""

    peer = None
    presented = ("", "")
    page_bytes_max = RANGE_BYTES_MAX
    is_late = True

    def __init__(self, core: Core, session: str, done: Done) -> None:
        self.sessions = {session} if session else set()
        self.reserved_bytes = 0
        self._core = core
        self._session = session
        self._done = done

    def ancestry(self) -> tuple[Any, ...]:
        return ()

    def caller(self) -> Caller:
        return Caller(INSTANCE, self._session)

    def answer(self, _call: wire.Call, result: Reply | CosessionError) -> None:
        self._done(result if isinstance(result, CosessionError) else None)

    def denied(self, request: Request[Any], error: CosessionError) -> None:
        self._core.journal.denied(self._core.journal.pace(), self.caller(), request, error)

    def measure(self, *_: Any) -> None:
        """Latencies are those of connections."""

    def hold(self) -> None:
        """There is nothing to keep open."""

    def release(self) -> None:
        """Nor to close."""

    def look_again(self) -> None:
        """Nothing waits to be read."""


def take(core: Core, table: Mapping[str, Operation], spooled: Spooled, done: Done) -> None:
    """Carry out a call; `done` gets None when it is durable, now or before, else why it is not."""
    try:
        _require_writable(core)
        call, request = _read(table, spooled)
        door = _Door(core, _session_of(core, spooled), done)
        mine = Call(cast("Conversation", door), call, core.clock.monotonic())
        mine.request = request
    except CosessionError as error:
        done(error)
        return
    try:
        reply = table[call.method].row.run(core, mine, request)
    except CosessionError as error:
        mine.fail(error)
    except Exception as error:  # noqa: BLE001  # a bug of ours must not stop the daemon for one file
        core.on_bug(error)
        why = f"cannot {call.method}: the daemon has a bug ({type(error).__name__}); its log has the details"
        done(CosessionError(why, code="internal"))
    else:
        if reply is not None:
            mine.reply(reply)


def tell(core: Core, log: Any) -> Callable[[Aside], None]:
    """Who is told of what was put aside: the log, and the audit."""

    def told(aside: Aside) -> None:
        log.warning("a spooled call was refused", file=aside.name, reason=aside.why)
        core.journal.acted("spool", caller=Caller(INSTANCE), outcome="refused", subject=aside.name)

    return told


def _require_writable(core: Core) -> None:
    if core.draining:
        raise CosessionError("cannot write: the daemon is shutting down; connect again", code="shutting_down")
    if core.read_only:
        raise CosessionError(f"cannot write: {core.read_only}", code="read_only")


def _read(table: Mapping[str, Operation], spooled: Spooled) -> tuple[wire.Call, Request[Any]]:
    """The call and its request, if it may come this way. Raises CosessionError."""
    try:
        call = _CODEC.decode_call(spooled.call)
    except wire.BadFrame as bad:
        raise bad.error from None
    if call.method not in SPOOLABLE or call.method not in table:
        may = ", ".join(SPOOLABLE)
        raise NotAllowed(f"cannot take {call.method[:64]!r} out of the spool: only {may} can wait")
    request: Request[Any] = wire.decode_params(table[call.method].decoder, call.params)
    if getattr(request, "request_id", "") != spooled.request_id:
        raise InvalidRequest(
            "cannot take that call: its request id is not the one in the name of its file, by which it is known again"
        )
    for name in SPOOLABLE[call.method]:
        value = getattr(request, name)
        if (value and value is not msgspec.UNSET) or (name == "expect_revision" and value is not msgspec.UNSET):
            raise NotAllowed(f"cannot take {call.method} with `{name}` out of the spool: it is checked too late")
    return call, request


def _session_of(core: Core, spooled: Spooled) -> str:
    """The session that a call acts for, "" for nobody. Raises NotAllowed for a proof that is none."""
    header = spooled.header
    if not header.session:
        return ""
    expected = proof(spooled.call, core.registry.session_token(header.session))
    if not hmac.compare_digest(expected.encode(), header.proof.encode("utf-8", "surrogatepass")):
        raise NotAllowed(f"cannot act for session {header.session[:128]}: the file does not prove that it is of it")
    return header.session if core.registry.view.get(header.session) is not None else ""
