"""The verbs about the daemon itself: hello, ping, status, reload, stop.

Rule: answered from memory, at once, whatever the store is doing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from msgspec import Struct

from cosession.messages.base import Reply, Request
from cosession.messages.limits import Limits
from cosession.model import Backup


class HelloReply(Reply, frozen=True, kw_only=True):
    """Who answers. `protocol` is the version both will speak; `epoch` and `revision` where the store stands."""

    version: str
    protocol: int
    daemon_id: str
    pid: int
    state_directory: str
    epoch: str
    limits: Limits


class Hello(Request[HelloReply], frozen=True, kw_only=True):
    """Optional first call. `epoch` and `seen_revision`: what this client last saw; `project`: where it works, to be
    shown beside it. Errors: incompatible, epoch_changed, damaged.

    `session`: for whom the writes of this connection act that name no session. `session_token` proves it, for every
    request that comes after; whether it does is judged by the requests that need it.
    """

    method: ClassVar[str] = "hello"
    client: str = ""
    version: str = ""
    protocol_min: int = 1
    protocol_max: int = 1
    epoch: str = ""
    seen_revision: int = 0
    project: str = ""
    session: str = ""
    session_token: str = ""


class PingReply(Reply, frozen=True, kw_only=True):
    """The shortest answer: `pid` and `version` of the daemon, `epoch` of the store."""

    pid: int
    version: str
    epoch: str


class Ping(Request[PingReply], frozen=True, kw_only=True):
    """Is the event loop alive? Touches nothing."""

    method: ClassVar[str] = "ping"


class BackupsStatus(Struct, frozen=True, kw_only=True):
    """`count` backups of `size_bytes` together, of which `damaged` cannot be used; the `newest` that can, and its
    `age_s`; `error`: why the last one failed, "" when it did not; how far the one is that is being made (`phase` ""
    when none is): `done_bytes` of `total_bytes`.
    """

    count: int = 0
    damaged: int = 0
    size_bytes: int = 0
    newest: Backup | None = None
    age_s: float = 0.0
    error: str = ""
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


class ProjectUsage(Struct, frozen=True, kw_only=True):
    """What one `project` has in the context: live `entries`, and the `bytes` of their keys and values."""

    project: str
    entries: int
    bytes: int


class SpoolStatus(Struct, frozen=True, kw_only=True):
    """The spool: its `directory`, the calls `waiting` in it, those `taken` and `refused` since the start, the files put
    `aside` in its `refused/`, and the `error` by which it cannot be looked into, "" for none.
    """

    directory: str = ""
    waiting: int = 0
    taken: int = 0
    refused: int = 0
    aside: int = 0
    error: str = ""


class StatusReply(Reply, frozen=True, kw_only=True):
    """The state of the daemon on one page.

    Who: `pid`, `version`, `daemon_id` (one run of it), `uptime_s`, the path of its `socket`, its `state_directory`, the
    `engine` that keeps the store, `read_only` (why writes are refused, "" when they are not), `running` (what holds up
    others for longer than a slice, "" when nothing does).

    The store: `epoch`, `compact_revision` (the oldest that can be read at or watched from), live `entries` and
    `live_bytes` of their keys and values, `database_bytes` in use with log and history, `surplus_batches` and
    `surplus_bytes` of the log that are still to be trimmed, `audit_records` kept and older ones `audit_cut`.

    Whose that is: `projects` with entries in the context, and the `usage` of those that have most, at most
    STATUS_PROJECTS_MAX, the largest first.

    The `disk`: "enough", "low" (writes are refused as disk_full, what ends or gives back something is not) or "spent"
    (the reserve is gone, and that is refused as well); `disk_free_bytes` beside the reserve, `reserve_bytes` held now
    and `reserve_bytes_max` when there is room for it.

    Who is there: live `sessions`, open `connections`, their `watches`, `turns` that somebody has or waits for. A
    conflict is pending until the connection that met it commits a write of that key (resolved), ends, or meets too many
    others (unresolved): `conflicts_pending`, `conflicts_resolved`, `conflicts_unresolved`; the three together are all
    conflicts answered since the start.

    What was wrong: `damage` that this daemon has met or was told of, in words; what is damaged is not served.
    `scrub_time`: when the whole store was last looked through, in seconds since the Unix epoch (0: not since the
    start), `scrub_rows` how much it was.

    The configuration: `config_file`, `config_error` (why it cannot be used now), `config` in force by TABLE.NAME, and
    keys that are `restart_needed` for. `backups`: see `BackupsStatus`, `spool`: see `SpoolStatus`. `counters` is a flat
    map of name to number since the start.
    """

    pid: int
    version: str
    daemon_id: str
    socket: str
    state_directory: str
    engine: str
    epoch: str
    compact_revision: int
    uptime_s: float
    entries: int
    live_bytes: int
    database_bytes: int
    surplus_batches: int
    surplus_bytes: int
    sessions: int
    connections: int
    watches: int
    conflicts_resolved: int = 0
    conflicts_unresolved: int = 0
    conflicts_pending: int = 0
    turns: int = 0
    audit_records: int = 0
    audit_cut: int = 0
    projects: int = 0
    usage: list[ProjectUsage] = []
    read_only: str = ""
    running: str = ""
    disk: Literal["enough", "low", "spent"] = "enough"
    disk_free_bytes: int = 0
    reserve_bytes: int = 0
    reserve_bytes_max: int = 0
    damage: list[str] = []
    scrub_time: float = 0
    scrub_rows: int = 0
    config_file: str = ""
    config_error: str = ""
    config: dict[str, Any] = {}
    restart_needed: list[str] = []
    backups: BackupsStatus = BackupsStatus()
    spool: SpoolStatus = SpoolStatus()
    counters: dict[str, Any] = {}


class Status(Request[StatusReply], frozen=True, kw_only=True):
    """See `StatusReply`."""

    method: ClassVar[str] = "status"


class ConfigChange(Struct, frozen=True, kw_only=True):
    """One key of the configuration that differs, and when that applies: at_once, to new_connections, at a restart."""

    key: str
    before: Any
    after: Any
    applies: Literal["at_once", "new_connections", "restart"]


class ReloadReply(Reply, frozen=True, kw_only=True):
    """`changed`: what is in force from now on; `restart_needed`: what the file says and a restart alone brings."""

    config_file: str
    changed: list[ConfigChange]
    restart_needed: list[ConfigChange]


class Reload(Request[ReloadReply], frozen=True, kw_only=True):
    """Read the configuration file again, as SIGHUP does. When it cannot be used, the one in force is kept.

    Errors: config.
    """

    method: ClassVar[str] = "admin.reload"


class ScrubReply(Reply, frozen=True, kw_only=True):
    """`rows` were looked at, `damaged` of them do not match what was committed; `damage` as in `status`."""

    rows: int
    damaged: int
    damage: list[str]


class Scrub(Request[ScrubReply], frozen=True, kw_only=True):
    """Look through the whole store for damage, as the daemon does by itself once a day; answered when it is done.

    A slice at a time, so that nobody waits for it. Changes nothing.
    """

    method: ClassVar[str] = "admin.scrub"


class StopReply(Reply, frozen=True, kw_only=True):
    """The daemon drains and exits after this answer; `pid` is the process to wait for."""

    pid: int


class Stop(Request[StopReply], frozen=True, kw_only=True):
    """Orderly end, as SIGTERM: stop accepting, answer what is in flight, tell clients, exit 0."""

    method: ClassVar[str] = "admin.stop"
