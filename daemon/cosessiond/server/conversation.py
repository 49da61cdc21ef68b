"""One connection, without I/O: frames become calls, calls find their row, answers and events become bytes.

Rule: reading pauses when too much is in flight or unsent, so that no peer can make the daemon hold more than its
share; nothing a peer sends leaves this module as anything but an answer or a close.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from msgspec import structs

from cosession import wire
from cosession.config import OF_CONNECTION
from cosession.errors import CosessionError, Overloaded
from cosession.messages import Reply, Request
from cosession.messages.debug import ConnectionState, Trace
from cosession.messages.limits import HIGH_WATER_BYTES, PROJECT_BYTES_MAX, SESSION_ID_BYTES_MAX, Limits
from cosession.messages.sessions import Heartbeat
from cosession.protocol import ServerConnection
from cosessiond.audit.journal import DENIALS
from cosessiond.audit.pace import Pace
from cosessiond.audit.records import Caller
from cosessiond.server.core import Core
from cosessiond.server.runqueue import COSTLY_S, TIME_SLICE_S, TRIFLE_BYTES
from cosessiond.server.table import Access, Operation
from cosessiond.server.tracing import Tracing
from cosessiond.sessions.authority import SESSION_TOKEN_CHARS
from cosessiond.sessions.identity import Peer, ProcessRef, ancestry_of
from cosessiond.store.watch import Watcher

#: How often a half-closed connection with watches is asked whether its peer still exists.
HANGUP_LOOK_S: Final = 1.0
#: What is kept of the name and the version of a client.
SHOWN_CHARS: Final = 64


class Transport(Protocol):
    """What moves the bytes."""

    def send(self, data: bytes) -> None:
        """Send or buffer."""
        ...

    def unsent(self) -> int:
        """Bytes buffered."""
        ...

    def pause(self, *, paused: bool) -> None:
        """Stop or go on reading."""
        ...

    def close(self) -> None:
        """Close after what is buffered has gone."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...

    def hung_up(self) -> bool:
        """Whether the peer has closed both directions."""
        ...


class Call:
    """One call while it is being answered. A handler answers exactly once, now or later."""

    __slots__ = ("_call", "_reserved", "began_s", "conversation", "request", "tracing")

    def __init__(self, conversation: Conversation, call: wire.Call, began_s: float) -> None:
        self.conversation = conversation
        self._call = call
        self.began_s = began_s
        self.tracing: Tracing | None = None  # while somebody asks where the time goes
        self._reserved = 0
        self.request: Request[Any] | None = None  # once it is decoded

    @property
    def peer(self) -> Peer | None:
        """Who is connected."""
        return self.conversation.peer

    @property
    def sessions(self) -> set[str]:
        """The sessions that this connection registered."""
        return self.conversation.sessions

    @property
    def is_late(self) -> bool:
        """Whether it was made long ago, when a session still lived that may have ended since: out of the spool."""
        return self.conversation.is_late

    @property
    def chosen(self) -> str:
        """The session that `hello` named, "" for none; nothing is proved by that."""
        return self.conversation.presented[0]

    def session_token(self, id: str) -> str:
        """What `hello` presented as the session token of session `id`, "" for nothing."""
        session, session_token = self.conversation.presented
        return session_token if session == id else ""

    def ancestry(self) -> tuple[ProcessRef, ...]:
        """The peer and its ancestors, looked up once per connection."""
        return self.conversation.ancestry()

    @property
    def page_bytes_max(self) -> int:
        """Where a page for this caller ends: JSON is larger than the MessagePack it is made of."""
        return self.conversation.page_bytes_max

    def reserve(self, size: int) -> None:
        """Count `size` bytes against the connection until this call is answered: for answers that are gathered."""
        self._reserved += size
        self.conversation.reserved_bytes += size

    def unreserve(self) -> None:
        """Count nothing for now: the call waits, and holds no answer."""
        self.conversation.reserved_bytes -= self._reserved
        self._reserved = 0
        self.conversation.look_again()

    def reply(self, reply: Reply) -> None:
        """Answer."""
        self.conversation.reserved_bytes -= self._reserved
        self.conversation.measure(self, self._call.method, "")
        self.conversation.answer(self._call, reply)

    def fail(self, error: CosessionError) -> None:
        """Answer with an error; one that is a denial is for the audit, too."""
        self.conversation.reserved_bytes -= self._reserved
        if error.code in DENIALS and self.request is not None:
            self.conversation.denied(self.request, error)
        self.conversation.measure(self, self._call.method, error.code)
        self.conversation.answer(self._call, error)


class Conversation:
    """The daemon's side of one connection; also the sink of its watches."""

    is_late = False

    def __init__(self, core: Core, table: Mapping[str, Operation], transport: Transport, peer: Peer | None) -> None:
        self._core = core
        self._table = table
        self._transport = transport
        self._limits = core.limits  # those of a connection hold for its life, whatever is configured later
        self._protocol = ServerConnection(core.limits)
        self.peer = peer
        self.sessions: set[str] = set()
        self.presented = ("", "")
        self.introduced = ("", "", "")  # what `hello` said: client, version, project
        self.number = next(core.numbers)
        self.traces: deque[Trace] | None = None  # while this connection traces itself
        self._answered: list[Tracing] = []  # and not sent yet
        self._monotonic = core.clock.monotonic
        self._arrived_s = 0.0
        self._took_s = 0.0  # when the last call was taken up
        self.watches: dict[int, Watcher] = {}
        self.calls = 0
        self.leaving = False
        self.reserved_bytes = 0
        self._held = 0
        self.opened_s = core.clock.monotonic()
        self._ancestry: tuple[ProcessRef, ...] | None = None
        self._pace: Pace | None = None  # of denials, once there is one
        self._next_watch = 1
        self._soiled = False
        self._paused = False
        self._waiting = False
        self._is_costly = False  # what it sent last took long
        self._starved = False
        self._eof = False
        self._closed = False
        core.conversations[self] = None
        if core.tails:
            self.observe(observed=True)

    # -- from the transport ----------------------------------------------------------------------------------------

    def received(self, data: bytes | memoryview) -> None:
        """Bytes arrived."""
        if self._core.tracer.is_on or self.traces is not None:
            self._arrived_s = self._monotonic()
        self._protocol.receive_data(data)
        self._process()
        self._core.flush()

    def received_eof(self) -> None:
        """The peer sends no more; what is in flight is still answered."""
        self._protocol.receive_eof()
        self._eof = True
        self._process()
        self._core.flush()
        self._close_when_done()
        self._look_for_hangup()

    def _look_for_hangup(self) -> None:
        """A peer that has half closed may still read its watches; one that is gone must not keep them."""
        if self._closed or not self.watches:
            return
        if self._transport.hung_up():
            self._transport.abort()
        else:
            self._core.deadlines.after(("hangup", self), HANGUP_LOOK_S, self._look_for_hangup)

    def drained(self) -> None:
        """The transport's buffer has room again."""
        self._feed_watches()
        self._process()
        self._core.flush()

    def closed(self) -> None:
        """The connection is gone."""
        self._closed = True
        self._core.conversations.pop(self, None)
        self._core.deadlines.cancel(("frame", self))
        self._core.deadlines.cancel(("hangup", self))
        self._core.runqueue.leave(self)
        self._core.watches.close_sink(self)
        self._core.waiting.leave(self)
        self._core.tails.left(self)
        if self._pace is not None:
            self._core.journal.left(self._pace, self.caller())
        self.watches.clear()
        self._core.registry.disconnected(sorted(self.sessions))
        self._core.conflicts.left(self)
        self._core.turns.left(self)
        self._core.referee.granting.left(self)
        self._core.flush()  # whose turn it is now

    # -- the way of a call -----------------------------------------------------------------------------------------

    def _process(self) -> None:
        """Take the calls that have come, as many as this connection may have now."""
        if self._waiting or self.leaving:
            return
        runqueue = self._core.runqueue
        if self._is_costly or (runqueue.is_spent and self._protocol.unread_bytes > TRIFLE_BYTES):
            self._is_costly = False  # cheap callers are served at once, however many costly ones there are
            self._wait()
            return
        self._run()

    def _run(self) -> None:
        """One time slice."""
        monotonic = self._monotonic
        self._took_s = began_s = monotonic()
        self._take_calls(monotonic, began_s + TIME_SLICE_S)
        took_s = monotonic() - began_s
        self._is_costly = took_s >= COSTLY_S
        if self._is_costly:
            self._core.runqueue.spend(took_s)

    def _take_calls(self, monotonic: Callable[[], float], enough_s: float) -> None:
        core = self._core
        protocol = self._protocol
        before = self.calls
        while not self._closed:
            if self._has_enough():
                self._stop_reading()
                return
            call = protocol.next_call(core.store.revision)
            if call is not None:
                self.calls += 1
                self._take(call)
            self._took_s = now_s = monotonic()
            if now_s >= enough_s:
                self._wait()
                return
            if call is None:
                break
        self._pause(paused=False)
        self._soil()
        if protocol.has_partial_frame:
            if self.calls != before or core.deadlines.when(("frame", self)) is None:
                core.deadlines.after(("frame", self), self._limits.frame_finish_s, self._frame_too_slow)
        else:
            core.deadlines.cancel(("frame", self))

    def _take(self, call: wire.Call | wire.BadFrame) -> None:
        if isinstance(call, wire.BadFrame):
            self._core.metrics.count(f"error.{call.error.code}")
            self._protocol.fail_frame(call, self._core.store.revision)
            self._soil()
        else:
            self._dispatch(call)

    def _wait(self) -> None:
        """What this connection sends costs much: go on in a later tick, with others in between."""
        self._core.metrics.count("time_slices")
        self._waiting = True
        self._stop_reading()
        self._soil()
        self._core.runqueue.wait(self, self._go_on)

    def _go_on(self) -> None:
        self._waiting = False
        if not self.leaving:
            self._run()
        self._core.flush()
        self._close_when_done()

    def _stop_reading(self) -> None:
        self._pause(paused=True)
        self._core.deadlines.cancel(("frame", self))  # it is we who do not read

    def _dispatch(self, call: wire.Call) -> None:
        operation = self._table.get(call.method)
        if operation is None:
            self.answer(call, wire.unknown_method(call.method))
            return
        mine = Call(self, call, self._took_s)
        if self._core.tracer.is_on or self.traces is not None:
            mine.began_s = self._monotonic()
            mine.tracing = Tracing(self.number, call.method, arrived_s=self._arrived_s, began_s=mine.began_s)
        if call.method != Heartbeat.method:  # a sign of life by itself, and no activity that holds claims
            for session in sorted(self.sessions):
                self._core.activity(session)
        try:
            if operation.row.access is Access.WRITE:
                self._admit_write()
            mine.request = request = wire.decode_params(operation.decoder, call.params)
            reply = operation.row.run(self._core, mine, request)
            if mine.tracing is not None:
                mine.tracing.decided_s = self._monotonic()
        except CosessionError as error:
            mine.fail(error)
            return
        except Exception as error:  # noqa: BLE001  # a bug of ours must not cost the caller its connection
            self._core.on_bug(error)
            why = f"cannot {call.method}: the daemon has a bug ({type(error).__name__}); its log has the details"
            mine.fail(CosessionError(why, code="internal"))
            return
        if reply is not None:
            mine.reply(reply)

    def _admit_write(self) -> None:
        if self._core.draining:
            raise CosessionError("cannot write: the daemon is shutting down; connect again", code="shutting_down")
        if self._core.read_only:
            raise CosessionError(f"cannot write: {self._core.read_only}", code="read_only")

    def answer(self, call: wire.Call, result: Reply | CosessionError) -> None:
        """Queue the answer of a call; sent with the next flush."""
        if self._closed:
            return
        if isinstance(result, CosessionError):
            self._core.metrics.count(f"error.{result.code}")
            self._protocol.fail(call, result, self._core.store.revision)
        else:
            self._protocol.reply(call, result)
        self._soil()

    def measure(self, call: Call, method: str, code: str) -> None:
        """A call is about to be answered."""
        now_s = self._monotonic()
        latency = self._core.metrics.latencies.get(method)
        if latency is not None:
            latency.add(now_s - call.began_s)
        else:
            self._core.metrics.took(method, now_s - call.began_s)
        if (tracing := call.tracing) is not None:
            tracing.answered_s, tracing.code, tracing.took = now_s, code, self._core.store.took
            tracing.session = getattr(call.request, "session", "")
            self._answered.append(tracing)

    def caller(self) -> Caller:
        """Who is connected, for the audit."""
        instance = f"{self.peer.pid}@{self.peer.start_time}" if self.peer is not None else ""
        return Caller(instance, next(iter(self.sessions)) if len(self.sessions) == 1 else "")

    def denied(self, request: Request[Any], error: CosessionError) -> None:
        """A request of this connection was refused for what it wanted."""
        if self._pace is None:
            self._pace = self._core.journal.pace()
        self._core.journal.denied(self._pace, self.caller(), request, error)

    # -- the sink of watches ---------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """See `store.watch.Sink`. Whoever was told no is called again by `flush` or `drained`."""
        if self._closed:
            return False
        if self._unsent() > HIGH_WATER_BYTES:
            self._starved = True
            return False
        return True

    def event(self, watch: int, body: bytes) -> bool:
        """See `store.watch.Sink`."""
        if self._closed:
            return True
        self._soil()
        return self._protocol.event(watch, body)

    def ended(self, watch: int) -> None:
        """See `store.watch.Sink`."""
        self.watches.pop(watch, None)

    @property
    def limits(self) -> Limits:
        """What holds for this connection now, which is what `hello` announces."""
        now = self._core.limits
        if now is self._limits:
            return now
        return structs.replace(now, **{name: getattr(self._limits, name) for name in OF_CONNECTION})

    def new_watch_id(self) -> int:
        """The number of the next watch of this connection. Raises Overloaded at the limit."""
        if len(self.watches) >= self._limits.watches_max:
            self._core.metrics.hit("watches")
            raise Overloaded(
                f"cannot watch: this connection has {self._limits.watches_max} watches; end one or connect again"
            )
        id = self._next_watch
        self._next_watch += 1
        return id

    # -- sending ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """One write of everything queued; then read on if that was waiting for this."""
        self._soiled = False
        if self._closed:
            return
        behind = self._transport.unsent() > HIGH_WATER_BYTES
        data = self._protocol.data_to_send()
        if data:
            self._transport.send(data)
        if self._answered:
            answered, self._answered = self._answered, []
            self._core.tracer.sent(answered, self._transport.unsent(), self.traces)
        if self._protocol.closing:
            self._transport.close()
            return
        # One large frame to a peer that reads is no reason: in JSON a batch may have more than `unsent_bytes_max`.
        if behind and self._transport.unsent() > self._limits.unsent_bytes_max:
            self._core.metrics.hit("unsent_bytes")
            self._transport.abort()
            return
        self._feed_watches()
        if self._paused and not self._closed:
            self._process()
        self._close_when_done()

    def leave(self, error: CosessionError) -> None:
        """Tell the peer that the daemon is going, and close after that."""
        self.leaving = True
        self._protocol.goodbye(error, self._core.store.revision)
        self.flush()
        self._transport.close()

    def hold(self) -> None:
        """Take no further call until `release`: one is under way that may have to be submitted again, and the writes
        of a connection commit in the order sent.
        """
        self._held += 1

    def release(self) -> None:
        """See `hold`."""
        self._held -= 1
        self._soil()

    def look_again(self) -> None:
        """Something that kept this connection from being read is over; the next flush takes it from there."""
        self._soil()

    def present(self, session: str, session_token: str) -> None:
        """Keep what `hello` presented, of each a bit more than can be right: a connection holds no more than that."""
        self.presented = session[: SESSION_ID_BYTES_MAX + 1], session_token[: SESSION_TOKEN_CHARS + 1]

    def refuse(self, error: CosessionError) -> None:
        """Say why and close."""
        self.leaving = True
        self._protocol.close_with(error, self._core.store.revision)
        self.flush()

    def ancestry(self) -> tuple[ProcessRef, ...]:
        """The peer and its ancestors, nearest first; empty when the peer is not known."""
        if self._ancestry is None:
            self._ancestry = ancestry_of(self.peer) if self.peer is not None else ()
        return self._ancestry

    def introduce(self, name: str, version: str, project: str) -> None:
        """Keep what `hello` said of the client, each cut to what a table has room for."""
        self.introduced = name[:SHOWN_CHARS], version[:SHOWN_CHARS], project[:PROJECT_BYTES_MAX]

    def observe(self, *, observed: bool) -> None:
        """See `tails.Observed`."""
        self._protocol.observer = self._passed if observed else None

    def _passed(self, frame: bytes, is_ours: bool) -> None:  # noqa: FBT001 (as the protocol calls it)
        self._core.tails.passed(self, frame, is_ours=is_ours)

    @property
    def pid(self) -> int:
        """See `tails.Observed`."""
        return self.peer.pid if self.peer is not None else 0

    @property
    def codec(self) -> wire.Codec | None:
        """See `tails.Observed`."""
        return self._protocol.codec

    @property
    def state(self) -> ConnectionState:
        """In one word, for people; see `messages.debug.ClientState`."""
        if self.leaving:
            return "leaving"
        if self._core.tails.of(self) is not None:
            return "tailing"
        return "waiting" if self._waiting else "paused" if self._paused else "reading"

    @property
    def is_held(self) -> bool:
        """See `hold`."""
        return self._held > 0

    @property
    def in_flight_bytes(self) -> int:
        """What calls that are not answered hold, with the room of their answers."""
        return self._protocol.in_flight_bytes + self.reserved_bytes

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not read."""
        return self._unsent()

    @property
    def is_over(self) -> bool:
        """Whether the connection is gone."""
        return self._closed

    @property
    def in_flight(self) -> int:
        """Calls not answered yet."""
        return self._protocol.in_flight

    @property
    def turns_max(self) -> int:
        """Turns this connection may have and wait for, so that the writes that end them are still read."""
        return max(1, self._limits.in_flight_max // 2)

    @property
    def page_bytes_max(self) -> int:
        """See `Call.page_bytes_max`."""
        return self._protocol.page_bytes_max

    def _unsent(self) -> int:
        return self._protocol.queued_bytes + self._transport.unsent()

    def _has_enough(self) -> bool:
        """Whether this connection holds its share of memory already, in calls or in answers."""
        protocol = self._protocol
        return (
            self._held > 0
            or protocol.in_flight >= self._limits.in_flight_max
            or protocol.in_flight_bytes + self.reserved_bytes > HIGH_WATER_BYTES
            or self._unsent() > HIGH_WATER_BYTES
        )

    def _feed_watches(self) -> None:
        """Let the watches go on that found this connection full."""
        if self._starved and self._unsent() <= HIGH_WATER_BYTES:
            self._starved = False
            self._core.watches.drained(self)

    def _soil(self) -> None:
        if not self._soiled:
            self._soiled = True
            self._core.soil(self)

    def _pause(self, *, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._transport.pause(paused=paused)

    def _close_when_done(self) -> None:
        if self._eof and not self._closed and not self._paused and self._protocol.in_flight == 0 and not self.watches:
            self._transport.close()

    def _frame_too_slow(self) -> None:
        self._core.metrics.hit("frame_finish")
        self.refuse(
            CosessionError(
                f"cannot wait: a frame was not finished within {self._limits.frame_finish_s:g} s; send it whole",
                code="timed_out",
            )
        )
