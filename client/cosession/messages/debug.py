"""The verbs that look into a running daemon: its clients, watches, queues, locks and tasks, its latencies, the traffic
of its socket. None of them touches the store.

Rule: what they show of others is names, counts and times; a value of anybody is shown when asked for in as many words,
a session token never. Each list is bounded.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from cosession.messages.base import Reply, Request

ConnectionState: TypeAlias = Literal["reading", "paused", "waiting", "tailing", "leaving"]


class ClientState(Struct, frozen=True, kw_only=True):
    """One connection: its number `client`, the `pid` at the other end (0: not known), what `hello` said of `name`,
    `version` and `project`, the `sessions` it registered, `encoding` ("" before the first byte) and `age_s`.

    `calls` since the beginning, of which `in_flight` are not answered and hold `in_flight_bytes`; `unsent_bytes` that
    it has not read; its `watches`. `state`: reading, paused (it holds its share), waiting (for its turn, since its
    calls take long), tailing or leaving.
    """

    client: int
    pid: int
    name: str
    version: str
    project: str
    sessions: list[str]
    encoding: str
    age_s: float
    calls: int
    in_flight: int
    in_flight_bytes: int
    unsent_bytes: int
    watches: int
    state: ConnectionState


class ClientsReply(Reply, frozen=True, kw_only=True):
    """The connections in the order in which they came. `client` is the one that asks."""

    clients: list[ClientState]
    client: int


class Clients(Request[ClientsReply], frozen=True, kw_only=True):
    """Who is connected."""

    method: ClassVar[str] = "debug.clients"


class WatchState(Struct, frozen=True, kw_only=True):
    """One watch: number `watch` of connection `client`, what it selects, and where it stands.

    `state`: live, lagging (its connection takes no more), waiting or reading (catching up from the log), snapshot.
    `behind` is how many revisions it has not been told of.
    """

    client: int
    watch: int
    space: str
    project: str
    prefix: str
    exact: bool
    state: str
    next_revision: int
    behind: int


class WatchesReply(Reply, frozen=True, kw_only=True):
    """At most DEBUG_ROWS_MAX, those furthest behind first; `more` says that there are others."""

    watches: list[WatchState]
    more: bool


class Watches(Request[WatchesReply], frozen=True, kw_only=True):
    """What is watched, of one `client` or (0) of all."""

    method: ClassVar[str] = "debug.watches"
    client: int = 0


class TaskState(Struct, frozen=True, kw_only=True):
    """One task of the event loop, or one thread; `stack` innermost last, each "function (file:line)"."""

    kind: Literal["task", "thread"]
    name: str
    stack: list[str]


class TasksReply(Reply, frozen=True, kw_only=True):
    """Threads first. `more` says that there are others."""

    tasks: list[TaskState]
    more: bool


class Tasks(Request[TasksReply], frozen=True, kw_only=True):
    """What the daemon is doing at this moment. The loop itself is always found answering this."""

    method: ClassVar[str] = "debug.tasks"


class QueueState(Struct, frozen=True, kw_only=True):
    """Something bounded that fills up: `used` of `max` now (0: it has no bound of its own, and says in PROTOCOL.md what
    bounds it), and the `bytes` it holds where that is known.
    """

    name: str
    used: int
    max: int
    bytes: int = 0


class QueuesReply(Reply, frozen=True, kw_only=True):
    """In the order of the way of a request."""

    queues: list[QueueState]


class Queues(Request[QueuesReply], frozen=True, kw_only=True):
    """How full everything is that somebody may wait in."""

    method: ClassVar[str] = "debug.queues"


class LockState(Struct, frozen=True, kw_only=True):
    """Something that others wait for or are refused by: what `kind`, of what `name`, who is the `holder` (in words),
    how many wait for it, and since when (0: not known).
    """

    kind: Literal["daemon", "turn", "purge", "backup", "connection", "claims"]
    name: str
    holder: str
    waiting: int
    held_s: float = 0.0


class LocksReply(Reply, frozen=True, kw_only=True):
    """At most DEBUG_ROWS_MAX; `more` says that there are others."""

    locks: list[LockState]
    more: bool


class Locks(Request[LocksReply], frozen=True, kw_only=True):
    """What is held, and who waits."""

    method: ClassVar[str] = "debug.locks"


class LogLevelReply(Reply, frozen=True, kw_only=True):
    """The `level` in force, the one that is `configured`, and in how many seconds that one is back (0: it is)."""

    level: str
    configured: str
    left_s: float


class LogLevel(Request[LogLevelReply], frozen=True, kw_only=True):
    """What is logged, or from now on for `for_s` seconds: `level` "" asks only, "configured" goes back at once.

    At `debug` every request is logged with its times, without what it is about.
    """

    method: ClassVar[str] = "debug.loglevel"
    level: str = ""
    for_s: float = 300.0


class Trace(Struct, frozen=True, kw_only=True):
    """Where the time of one request went: of which `client`, `method` and `session` it was, its error `code` ("" when
    it went well), the `time` when it came (seconds since the Unix epoch), `total_ms` until its answer was sent.

    The stages, in milliseconds, add up to the total: `wait_ms` behind other calls before it was looked at, `decide_ms`
    checked and decided, `queue_ms` until the store's thread took it (or all that it waited, when it wrote nothing),
    `commit_ms` applied and written with its group, `fsync_ms` until the disk had it, `publish_ms` until the loop had it
    in memory and with watchers, `send_ms` encoded and sent. `group` batches were committed together; `unsent_bytes`
    were not yet read by the caller when its answer was sent.
    """

    client: int
    method: str
    session: str
    code: str
    time: float
    total_ms: float
    wait_ms: float
    decide_ms: float
    queue_ms: float
    commit_ms: float
    fsync_ms: float
    publish_ms: float
    send_ms: float
    group: int
    unsent_bytes: int


class TraceReply(Reply, frozen=True, kw_only=True):
    """Whether requests are traced (`on`) and for how long still; of those slower than `slow_ms` the newest `traces`,
    newest first; `seen` is how many there were since it was switched on.
    """

    on: bool
    left_s: float
    slow_ms: float
    seen: int
    traces: list[Trace]


class TraceRequests(Request[TraceReply], frozen=True, kw_only=True):
    """Why requests are slow. `on` true: trace those that take over `slow_ms`, for `for_s` seconds, and forget earlier
    ones; false: no longer. Absent, nothing changes.

    `mine`: all of this connection only, beside what is traced of others.
    """

    method: ClassVar[str] = "debug.trace"
    on: bool | UnsetType = UNSET
    slow_ms: float = 0.0
    for_s: float = 60.0
    mine: bool = False
    limit: int = 20


class Latency(Struct, frozen=True, kw_only=True):
    """How long something took, `count` times, together `sum_s` and at most `max_s`. `buckets` has, for each bound of
    `bounds_s` and one more for all above, how many took no longer than that and longer than the bound before.
    """

    count: int
    sum_s: float
    max_s: float
    buckets: list[int]


class Gauge(Struct, frozen=True, kw_only=True):
    """A number that goes up and down; `limit` and how `full` it is, from 0 to 1, where it is bounded."""

    name: str
    value: float
    limit: float | None = None
    full: float | None = None


class MetricsReply(Reply, frozen=True, kw_only=True):
    """`timestamp` in seconds since the Unix epoch, `uptime_s`; `gauges`; `counters` since the start; `latencies` by
    name: `request.METHOD`, `commit`, `fsync`, with the `bounds_s` of their buckets.
    """

    version: str
    timestamp: float
    uptime_s: float
    gauges: list[Gauge]
    counters: dict[str, Any]
    bounds_s: list[float]
    latencies: dict[str, Latency]


class Metrics(Request[MetricsReply], frozen=True, kw_only=True):
    """Everything that is counted or measured."""

    method: ClassVar[str] = "debug.metrics"


class Frame(Struct, frozen=True, kw_only=True):
    """One frame as it passed: `number` of the tail, `time` (seconds since the Unix epoch), the connection and its
    process, who sent it (`by`), how many bytes it was.

    `kind`: call, reply, error, event, goodbye, or unreadable. `id` of the call or of the watch, `method` of the call
    (also with its answer, when the tail has seen the call), `took_ms` from the call to its answer. `body` is what it
    said: parameters, result, error or event; what is hidden there stands as "<string, 12>" and the like. `left_out`:
    the body was too large to show.
    """

    number: int
    time: float
    client: int
    pid: int
    encoding: str
    by: Literal["client", "daemon"]
    kind: Literal["call", "reply", "error", "event", "goodbye", "unreadable"]
    id: Any
    method: str
    size: int
    took_ms: float
    body: Any
    left_out: bool


class TailReply(Reply, frozen=True, kw_only=True):
    """The `frames` that passed since the last call, oldest first; `lost` others had no place while nobody asked.
    `more`: others have passed already. `began`: this call did, so that nothing is known of before.
    """

    began: bool
    frames: list[Frame]
    lost: int
    more: bool


class Tail(Request[TailReply], frozen=True, kw_only=True):
    """The traffic of the socket, live. The first call of a connection begins, with nothing; each later one brings what
    has passed since, and waits up to `wait_s` seconds for something.

    Of one `client` (its number) or one `pid`, and of methods that begin with `method`; 0 and "" take all. `values`:
    show values as well. Never shown are session tokens, and connections that tail. Other filters begin anew. A
    connection that does not ask for TAIL_IDLE_S seconds is closed. Errors: overloaded.
    """

    method: ClassVar[str] = "debug.tail"
    client: int = 0
    pid: int = 0
    methods: str = ""
    values: bool = False
    wait_s: float = 0.0
    limit: int = 256
