"""A client: a process with one connection at a time, which keeps book of every call, answer and event.

It speaks through `protocol.ClientConnection`, comes back after a cut, repeats what ended unknown under the same
request id, re-attaches its sessions and resumes its watches behind the last revision they showed.

Rule: it believes the daemon nothing that it does not write into the history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from msgspec import msgpack

from cosession.errors import CosessionError
from cosession.messages import Reply, Request, reply_type
from cosession.messages import sessions as session_messages
from cosession.messages.admin import Hello
from cosession.messages.limits import Limits
from cosession.messages.watches import Unwatch, Watch, WatchEvent, WatchReply
from cosession.model import Written
from cosession.protocol import ClientConnection, Event, Failed, Leaving, Lost, Replied
from cosession.wire import ERROR, REPLY, Answer
from simulation.disk import EPOCH
from simulation.history import Call, History, Segment, Watching
from simulation.machine import Machine, Process
from simulation.network import Link
from simulation.scheduler import Scheduler

Then = Callable[[Call], None]
_DECODERS: dict[type[Any], msgpack.Decoder[Any]] = {}
_decode_event = msgpack.Decoder(WatchEvent).decode


def _decode_reply(request: Request[Any], body: bytes) -> Reply:
    kind = type(request)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgpack.Decoder(reply_type(kind))
    reply: Reply = decoder.decode(body)
    return reply


def _committed(reply: Any) -> int:
    """The revision that an answer to a write speaks of, which whoever has it may rely on from then on."""
    written = getattr(reply, "written", None) or []
    several = written if isinstance(written, list) else [written]
    revision: int = getattr(reply, "txn_revision", 0) or max((each.mod_revision for each in several), default=0)
    return revision


class Dialler(Protocol):
    """Who makes connections."""

    def dial(self, client: Client, process: Process | None) -> Link | None:
        """A connection, or None when nobody listens."""
        ...


class _Counted(ClientConnection):
    """Tells of answers to calls that are not in flight, which the library drops without a word."""

    def __init__(self, limits: Limits, wrong: Callable[[str], None]) -> None:
        super().__init__(limits)
        self._wrong = wrong

    def _event(self, answer: Answer) -> Any:
        if answer.kind in (REPLY, ERROR) and answer.id and answer.id not in self.in_flight:
            self._wrong(f"call {answer.id} of its connection was answered twice")
        return super()._event(answer)


@dataclass(eq=False)
class Held:
    """A session that this client registered."""

    id: str
    token: str
    heartbeat_s: float
    over: bool = False


@dataclass(eq=False)
class Client:
    """One client. `foreign`: its process is in another pid namespace."""

    name: str
    world: Scheduler
    dialler: Dialler
    machine: Machine
    history: History
    foreign: bool = False
    slow_until_s: float = 0.0
    known: dict[str, int] = field(default_factory=dict)
    unknown: list[Call] = field(default_factory=list)
    done: list[Call] = field(default_factory=list)
    sessions: list[Held] = field(default_factory=list)
    watches: list[Watching] = field(default_factory=list)
    link: Link | None = None
    gone: bool = False
    broken: bool = False
    seen: int = 0

    def __post_init__(self) -> None:
        self.random = self.world.stream(f"client {self.name}")
        self.agent = self.machine.spawn()
        self.process = self.machine.spawn(self.agent)
        self._protocol = _Counted(self.history.knobs.limits(), self._wrong)
        self._calls: dict[int, tuple[Call, Then | None]] = {}
        self._routes: dict[int, tuple[Watching, Segment]] = {}

    # -- the connection --------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect, or try again soon while nobody listens."""
        if self.gone or self.link is not None:
            return
        self.link = self.dialler.dial(self, None if self.foreign else self.process)
        if self.link is None:
            self.world.call_after(self.random.uniform(0.001, 0.1), self.connect)
            return
        self._protocol = _Counted(self.history.knobs.limits(), self._wrong)
        if self.random.random() < 0.3:
            self.call(Hello(client="sim", epoch=self._epoch(), seen_revision=self.seen))
        for held in self.sessions:
            if not held.over and self.random.random() < 0.7:
                self.register(held.id, heartbeat_s=held.heartbeat_s, token=held.token)
        for watching in self.watches:
            self.resume(watching)
        self.repeat_unknown()

    def cut(self) -> None:
        """Drop the connection."""
        link, self.link = self.link, None
        if link is not None:
            link.close(self.random)
            self._forget()
            self.world.call_after(self.random.uniform(0.0, 0.05), self.connect)

    def die(self) -> None:
        """The process is killed, and sometimes the agent that started it; another takes its place."""
        self.machine.kill(self.process)
        link, self.link = self.link, None
        if link is not None:
            link.close(self.random)
            self._forget()
        if self.random.random() < 0.5:
            self.machine.kill(self.agent)
            self.agent = self.machine.spawn()
        if not self.gone:
            self.process = self.machine.spawn(self.agent)
            self.world.call_after(self.random.uniform(0.0, 0.3), self.connect)

    def lost(self) -> None:
        """See `network.Reader`."""
        self.link = None
        self._forget()
        self.world.call_after(self.random.uniform(0.0, 0.05), self.connect)

    def receive(self, data: bytes) -> None:
        """See `network.Reader`."""
        if self.broken:
            return
        for event in self._protocol.receive_data(data):
            if isinstance(event, Replied):
                call, then = self._calls.pop(event.id)
                call.reply = _decode_reply(call.request, event.body)
                self._answered(call, "replied", call.reply.revision, then)
            elif isinstance(event, Failed):
                call, then = self._calls.pop(event.id)
                call.error = event.error
                self._answered(call, "failed", event.revision, then)
            elif isinstance(event, Event):
                self._watch_event(event)
            elif isinstance(event, Lost):
                self._wrong(f"the daemon gave up on a connection that followed the protocol: {event.error}")
            else:
                assert isinstance(event, Leaving)

    def _forget(self) -> None:
        for call, _ in self._calls.values():
            call.status = "cut"
            if getattr(call.request, "request_id", ""):
                self.unknown.append(call)
        self._calls.clear()
        for _, segment in self._routes.values():
            segment.over = segment.over or "cut"
        self._routes.clear()

    def _answered(self, call: Call, status: Any, revision: int, then: Then | None) -> None:
        call.status = status
        call.revision = revision
        call.answered_s = self.world.now_s
        call.ceiling = self.history.revision
        call.compact = self.history.compact
        self._saw(max(revision, _committed(call.reply)))
        error = call.error.code if call.error else ""
        self.world.note(f"{self.name} {call.number} {type(call.request).__name__} {status} {error} @{revision}")
        if then is not None:
            then(call)

    def _saw(self, revision: int) -> None:
        self.seen = max(self.seen, revision)
        self.history.saw(revision)

    def _epoch(self) -> str:
        return EPOCH if self.seen else ""

    def _wrong(self, what: str) -> None:
        self.history.wrong.append(f"{self.name}: {what}")

    # -- calls -----------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Calls without an answer."""
        return len(self._calls)

    def call(self, request: Request[Any], then: Then | None = None, *, first: int = 0) -> Call | None:
        """Send one call; None when there is no connection or too much in flight."""
        if self.link is None:
            return None
        try:
            id, data = self._protocol.call(request)
        except CosessionError:
            return None
        number = len(self.history.calls) + 1
        call = Call(
            number,
            self.name,
            self.link.number,
            request,
            sent_s=self.world.now_s,
            floor=self.history.seen,
            first=first or number,
            opened=self.history.compact,
        )
        self.history.calls.append(call)
        self._calls[id] = (call, then)
        self.history.by_wire[self.link.number, id] = call
        about = getattr(request, "key", getattr(request, "session", ""))
        self.world.note(f"{self.name} {number} {type(request).__name__} {about} sent")
        self.link.send(data)
        return call

    def write(self, request: Any, then: Then | None = None) -> Call | None:
        """Send a write, and remember what came of it."""

        def answered(call: Call) -> None:
            self._learn(call)
            self.done.append(call)
            if then is not None:
                then(call)

        return self.call(request, answered)

    def repeat(self, earlier: Call, then: Then | None = None) -> Call | None:
        """The same call again, under the same request id."""
        return self.call(earlier.request, then, first=earlier.first)

    def repeat_unknown(self) -> None:
        """Repeat what ended unknown, or leave it so."""
        unknown, self.unknown = self.unknown, []
        for earlier in unknown:
            if self.random.random() < 0.8 and self.repeat(earlier) is None:
                self.unknown.append(earlier)

    def _learn(self, call: Call) -> None:
        """Which revisions of entries this client knows from answers."""
        reply: Any = call.reply
        key = getattr(call.request, "key", None)
        if key is None:
            return
        if call.error is not None and call.error.code == "conflict":
            current = call.error.data.get("current")
            self.known[key] = current["mod_revision"] if current else 0
        elif isinstance(getattr(reply, "written", None), Written):
            self.known[key] = reply.written.mod_revision if reply.written.kind == "put" else 0

    # -- sessions --------------------------------------------------------------------------------------------------

    def register(self, id: str, *, heartbeat_s: float, token: str = "", replaces: str = "") -> None:
        """Register a session, of this process or of its agent."""
        pid = 0 if self.foreign or self.random.random() < 0.5 else self.agent.pid
        request = session_messages.Register(
            id=id, heartbeat_s=heartbeat_s, pid=pid, replaces=replaces, session_token=token
        )
        self.call(request, partial(self._registered, heartbeat_s, replaces))

    def _registered(self, heartbeat_s: float, replaces: str, call: Call) -> None:
        if not isinstance(call.reply, session_messages.RegisterReply):
            return
        id = call.reply.session.id
        if id not in self.history.sessions:
            self.history.sessions.append(id)
        for held in self.sessions:
            held.over = held.over or held.id == replaces
        held = next((each for each in self.sessions if each.id == id), Held(id, "", heartbeat_s))
        held.token, held.over, held.heartbeat_s = call.reply.session_token, False, heartbeat_s
        if held not in self.sessions:
            self.sessions.append(held)

    # -- watches ---------------------------------------------------------------------------------------------------

    def watch(self, watching: Watching, start: int) -> None:
        """Begin a watch, or go on with one."""
        name = {"key": watching.prefix} if watching.exact else {"prefix": watching.prefix}
        epoch = self._epoch() if start else ""
        request = Watch(space=watching.space, project=watching.project, start_revision=start, epoch=epoch, **name)
        segment: list[Segment] = []

        def opened(call: Call) -> None:
            if isinstance(call.reply, WatchReply):
                self._routes[call.reply.watch] = (watching, segment[0])
                watching.segments.append(segment[0])
            elif call.error is not None and call.error.code == "compacted":
                self.watch(watching, 0)
            elif watching in self.watches:
                self.watches.remove(watching)

        call = self.call(request, opened)
        if call is not None:
            segment.append(Segment(start, call.floor, call))

    def resume(self, watching: Watching) -> None:
        """Go on behind the last revision that was shown; without any, from a snapshot or where it began."""
        position = 0
        for segment in watching.segments:
            if segment.events and segment.events[-1].kind != "snapshot" and segment.over != "compacted":
                position = segment.events[-1].revision + 1
            elif segment.start and not segment.events:
                position = segment.start
            elif segment.over == "compacted":
                position = 0
        self.watch(watching, position)

    def unwatch(self) -> None:
        """End one watch."""
        if not self._routes:
            return
        number = self.random.choice(list(self._routes))
        watching, segment = self._routes[number]

        def ended(call: Call) -> None:
            if call.reply is not None:
                segment.over = segment.over or "unwatched"
                self._routes.pop(number, None)

        if self.call(Unwatch(watch=number), ended) is not None and watching in self.watches:
            self.watches.remove(watching)

    def _watch_event(self, event: Event) -> None:
        found = self._routes.get(event.watch)
        if found is None:
            self._wrong(f"an event came for watch {event.watch}, which is not open")
            return
        watching, segment = found
        decoded = _decode_event(event.body)
        segment.events.append(decoded)
        segment.ceilings.append(self.history.revision)
        segment.compacts.append(self.history.compact)
        segment.arrived_s.append(self.world.now_s)
        self._saw(decoded.revision)
        self.world.note(f"{self.name} watch {event.watch} {decoded.kind} @{decoded.revision}")
        if decoded.kind == "end":
            segment.over = decoded.code
            del self._routes[event.watch]
            if watching in self.watches:
                again = (
                    0 if decoded.code == "compacted" else decoded.data.get("resume_revision", 0)
                )  # 0: it never began
                self.watch(watching, again)
