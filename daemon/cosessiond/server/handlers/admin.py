"""hello, ping, status, reload, stop: answered from memory, at once."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from cosession.config import values
from cosession.errors import ConfigError, CosessionError, EpochChanged
from cosession.messages import admin
from cosession.messages.limits import PROTOCOL_OLDEST, PROTOCOL_VERSION, STATUS_PROJECTS_MAX
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.handlers.backup import public
from cosessiond.server.table import Access, Row

#: A client that claims more has invented it; 2**53 is where JSON's numbers end.
CLAIMED_REVISION_MAX: Final = 1 << 52


def hello(core: Core, call: Call, request: admin.Hello) -> admin.HelloReply:
    """Agree on a protocol; refuse a client that remembers another epoch, or more of this one than there is."""
    me, store = core.identity, core.store
    protocol = min(request.protocol_max, PROTOCOL_VERSION)
    if protocol < max(request.protocol_min, PROTOCOL_OLDEST):
        raise CosessionError(
            f"cannot speak protocol {request.protocol_min} to {request.protocol_max}: this daemon ({me.version}) "
            f"speaks {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}; run `cosession restart` after an upgrade",
            code="incompatible",
            data={"version": me.version, "protocol": PROTOCOL_VERSION},
        )
    if request.epoch and request.epoch != store.epoch:
        raise EpochChanged(
            f"cannot go on from epoch {request.epoch[:40]!r}: the store is in {store.epoch} now; forget what you have "
            "seen, say hello without it, and take new snapshots",
            data={"epoch": store.epoch},
        )
    if request.epoch and request.seen_revision > store.revision:
        core.damage.met("client", f"a client has seen revision {request.seen_revision}, beyond the end of the store")
        if core.marking and request.seen_revision <= CLAIMED_REVISION_MAX:
            core.marking.claimed(request.seen_revision)
        raise CosessionError(
            f"cannot go on: this client has seen revision {request.seen_revision}, the store ends at {store.revision}; "
            "acknowledged writes are missing; see what was lost: cosession doctor, or go on without: cosession restart",
            code="damaged",
            data={"seen_revision": request.seen_revision},
        )
    if request.project:
        admission.check_project(request.project)
    call.conversation.present(request.session, request.session_token)
    call.conversation.introduce(request.client, request.version, request.project)
    return admin.HelloReply(
        revision=store.revision,
        version=me.version,
        protocol=protocol,
        daemon_id=me.daemon_id,
        pid=me.pid,
        state_directory=me.state_directory,
        epoch=store.epoch,
        limits=call.conversation.limits,
    )


def ping(core: Core, _call: Call, _request: admin.Ping) -> admin.PingReply:
    """The shortest answer."""
    me = core.identity
    return admin.PingReply(revision=core.store.revision, pid=me.pid, version=me.version, epoch=core.store.epoch)


def status(core: Core, _call: Call, _request: admin.Status) -> admin.StatusReply:
    """The daemon on one page."""
    me, store, configuration = core.identity, core.store, core.configuration
    room = core.look_at_room()
    return admin.StatusReply(
        revision=store.revision,
        pid=me.pid,
        version=me.version,
        daemon_id=me.daemon_id,
        socket=me.socket,
        state_directory=me.state_directory,
        engine=store.engine_name,
        epoch=store.epoch,
        compact_revision=store.compact_revision,
        uptime_s=round(core.clock.monotonic() - me.started_s, 3),
        entries=len(store.index),
        live_bytes=store.index.live_bytes,
        database_bytes=store.database_bytes,
        surplus_batches=store.surplus_batches,
        surplus_bytes=store.surplus_bytes,
        sessions=core.registry.live_count,
        connections=len(core.conversations),
        watches=len(core.watches),
        conflicts_resolved=core.conflicts.resolved,
        conflicts_unresolved=core.conflicts.unresolved,
        conflicts_pending=core.conflicts.pending,
        turns=len(core.turns),
        audit_records=store.audit.last - store.audit.first + 1,
        audit_cut=store.audit.first - 1,
        projects=len(store.index.usage.projects),
        usage=[
            admin.ProjectUsage(project=name, entries=used.entries, bytes=used.bytes)
            for name, used in store.index.usage.projects.largest(STATUS_PROJECTS_MAX)
        ],
        read_only=core.read_only,
        running=core.running,
        disk=room.level,
        disk_free_bytes=room.free_bytes,
        reserve_bytes=room.reserve_bytes,
        reserve_bytes_max=room.reserve_bytes_max,
        config_file=configuration.path,
        config_error=configuration.error,
        config=values(configuration.in_force),
        restart_needed=[each.key for each in configuration.restart_needed],
        damage=core.damage.found,
        scrub_time=core.scrubs.time_s,
        scrub_rows=core.scrubs.rows,
        backups=_backups(core),
        spool=admin.SpoolStatus(**structs.asdict(core.spool)),
        counters=core.metrics.snapshot() | store.stalls.counters(),
    )


def _backups(core: Core) -> admin.BackupsStatus:
    backups, making = core.backups, core.backups.making
    newest = backups.newest
    shown = public(newest) if newest else None
    return admin.BackupsStatus(
        count=len(backups.found),
        damaged=sum(each.state != "valid" for each in backups.found),
        size_bytes=sum(each.size_bytes for each in backups.found),
        newest=shown,
        age_s=max(0.0, core.clock.wall_ms() / 1000 - shown.time) if shown else 0.0,
        error=backups.error,
        phase=making.phase if making else "",
        done_bytes=making.done_bytes if making else 0,
        total_bytes=making.total_bytes if making else 0,
    )


def reload(core: Core, call: Call, _request: admin.Reload) -> admin.ReloadReply:
    """Read the configuration again; raises ConfigError, which says that the one in force is kept."""
    configuration = core.configuration
    before = configuration.error
    try:
        changed = configuration.reload()
    except ConfigError as error:
        if configuration.error != before:
            core.journal.acted("admin.reload", caller=call.conversation.caller(), outcome=error.code)
        raise ConfigError(f"{error.message}; the configuration in force is kept", data=error.data) from None
    if changed or before:  # asked in vain, it leaves no record: records crowd out records
        core.journal.acted("admin.reload", caller=call.conversation.caller())
    return admin.ReloadReply(
        revision=core.store.revision,
        config_file=configuration.path,
        changed=changed,
        restart_needed=configuration.restart_needed,
    )


def scrub(core: Core, call: Call, _request: admin.Scrub) -> None:
    """Answered when the whole store was looked at."""

    def done(rows: int, damaged: int) -> None:
        call.reply(admin.ScrubReply(revision=core.store.revision, rows=rows, damaged=damaged, damage=core.damage.found))
        core.flush()

    core.scrubs.ask(done)


def stop(core: Core, call: Call, _request: admin.Stop) -> None:
    """Answer first, then drain: the answer belongs to what is in flight."""
    core.journal.acted("admin.stop", caller=call.conversation.caller())
    call.reply(admin.StopReply(revision=core.store.revision, pid=core.identity.pid))
    core.flush()
    core.stop()


ROWS: Final = (
    Row(admin.Hello, Access.ADMIN, hello),
    Row(admin.Ping, Access.ADMIN, ping),
    Row(admin.Status, Access.ADMIN, status),
    Row(admin.Reload, Access.ADMIN, reload),
    Row(admin.Scrub, Access.ADMIN, scrub),
    Row(admin.Stop, Access.ADMIN, stop),
)
