"""Every limit of the wire and the store, named, with units last. The daemon may lower them, never raise them.

Rule: a number that bounds something a peer can send stands here and nowhere else; `client/PROTOCOL.md` lists
them all and a test compares the two.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

PROTOCOL_VERSION: Final = 1
PROTOCOL_OLDEST: Final = 1

# Hard bounds of the protocol that no configuration touches.
HOOK_PAYLOAD_BYTES_MAX: Final = 4 * 1024 * 1024  # of one event; a longer one comes without it
PROJECT_BYTES_MAX: Final = 1024
REQUEST_ID_BYTES_MAX: Final = 64
METHOD_BYTES_MAX: Final = 64
VALUE_DEPTH_MAX: Final = 32
# Small bytes can be many things to walk: these bound the time one frame takes (P16). 256 KiB hold so many nodes of four
# bytes each, so that only values of very small parts meet the first.
VALUE_NODES_MAX: Final = 65_536
CALL_NODES_MAX: Final = 131_072
BATCH_WRITES_MAX: Final = 128
BATCH_BYTES_MAX: Final = 960 * 1024
BATCH_COMPARES_MAX: Final = 128
RANGE_COMPARES_MAX: Final = 8  # each may look at every entry that is newer than its bound
RANGE_ENTRIES_MAX: Final = 1_000
RANGE_BYTES_MAX: Final = 1024 * 1024 - 64 * 1024  # a page and its envelope stay inside one frame
# Whatever the configuration says of the frames that peers may send: a batch of BATCH_BYTES_MAX fits also in JSON.
SENT_FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
RANGE_BYTES_JSON_MAX: Final = 320 * 1024  # one byte of MessagePack becomes at most six of JSON
VERSIONS_KEPT: Final = 50
TTL_S_MAX: Final = 366 * 24 * 3600
REVISION_MAX: Final = 2**63 - 1
VALUE_BYTES_MAX: Final = 256 * 1024  # of what a merge leaves; part of batch format 1, whatever `value_bytes_max` is
NAME_BYTES_MAX: Final = 256
TEXT_BYTES_MAX: Final = 4096
SESSION_ID_BYTES_MAX: Final = 128
SESSION_INSTANCES_MAX: Final = 16
SESSION_EPHEMERALS_MAX: Final = 100  # all of them expire in the one batch that ends the session
SESSIONS_LIVE_MAX: Final = 10_000
SESSIONS_ENDED_KEPT: Final = 10_000
HEARTBEAT_S_MIN: Final = 0.1
HEARTBEAT_S_MAX: Final = 2_400.0  # three missed ones stay within the 2 h of the least judgeable session
HIGH_WATER_BYTES: Final = 1024 * 1024  # unanswered calls or unsent answers: above it a connection is not read
SILENT_S: Final = 10.0  # a connection that has never said anything gives way after this, when the cap is reached
COMMIT_QUEUE_MAX: Final = 16_384
COMMIT_QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
COMMIT_GROUP_MAX: Final = 256
COMMIT_GROUP_WRITES_MAX: Final = 512
COMMIT_GROUP_BYTES_MAX: Final = 1024 * 1024
REQUEST_IDS_KEPT_MIN: Final = 10_000  # whatever their age
SNAPSHOT_KEYS_MAX: Final = 8_000_000  # of all snapshots that are being sent
SNAPSHOT_OLD_BYTES_MAX: Final = 64 * 1024 * 1024
READ_QUEUE_MAX: Final = 4_096
DECIDE_ATTEMPTS_MAX: Final = 8
REVERT_ENTRIES_MAX: Final = 4_096  # looked at for one revert: each is a compare of its batch
PURGES_MAX: Final = 1  # at a time: each ends with writing the whole database anew
TURN_S: Final = 1.0  # from the grant; who hangs holds up the others no longer
TURN_WAIT_S_MAX: Final = 60.0
TURN_WAITERS_MAX: Final = 1_024  # of one key
TURNS_MAX: Final = 16_384  # given and waited for, of all keys
CONFLICT_KEYS_MAX: Final = 16  # of one connection, whose conflicts are not resolved yet
CLAIM_TARGETS_MAX: Final = 64  # of one claim
TARGET_BYTES_MAX: Final = 512
CLAIMS_SESSION_MAX: Final = 100  # all of them end in the one batch that follows the end of the session
CLAIM_TARGETS_PROJECT_MAX: Final = 16_384  # of all claims and waiting requests of a project
CLAIM_WAITERS_MAX: Final = 256  # of one project
CLAIM_WAIT_S_MAX: Final = 3_600
CLAIM_TTL_S_MAX: Final = 7 * 24 * 3600
CLAIM_TTL_S_MIN: Final = 1
MAIL_TEXT_BYTES_MAX: Final = 8 * 1024  # of one letter; what is larger belongs into the context, which it may name
MAIL_THREAD_BYTES_MAX: Final = 128
MAIL_RECIPIENTS_MAX: Final = 100  # of a letter to all of a project: its copies are one batch
MAIL_BOX_LETTERS_MAX: Final = 200  # unread, of one session
MAIL_BOX_BYTES_MAX: Final = 512 * 1024  # unread, of one session
MAIL_BYTES_MAX: Final = 64 * 1024 * 1024  # of all boxes
MAIL_READ_KEPT: Final = 32  # of one session; the oldest go
CHECKPOINT_BYTES_MAX: Final = 256 * 1024  # of one, with its git facts and claims
CHECKPOINTS_KEPT: Final = 10  # of one session
CHECKPOINTS_BYTES_MAX: Final = 64 * 1024 * 1024  # of all sessions
CHECKPOINTS_MAX: Final = 20_000  # of all sessions
CHECKPOINT_FILES_MAX: Final = 500  # of one, and as many of its git facts
CHECKPOINT_EVENTS_MAX: Final = 1_000_000  # that one heartbeat may report, or after which a checkpoint is due
CHECKPOINTS_QUARANTINED_MAX: Final = 16
RECOVERY_CHANGES_MAX: Final = 100  # entries that changed since a checkpoint, of each kind
RECOVERY_LOG_PAGES_MAX: Final = 32  # of 256 rows or 256 KiB, looked at for one recovery
STATUS_PROJECTS_MAX: Final = 20  # those that have most
AUDIT_RECORDS_MAX: Final = 1_000
AUDIT_LOOKED_MAX: Final = 16_384  # rows that one call of `audit` looks at, whatever it finds
AUDIT_WAIT_S_MAX: Final = 60
AUDIT_WAITING_MAX: Final = 256
DENIALS_SHOWN_MAX: Final = 10  # by one `session.why_not`
BACKUP_WAIT_S_MAX: Final = 60  # in one call
BACKUP_WORKS_KEPT: Final = 64  # that have ended, for whoever asks again by number
DEBUG_ROWS_MAX: Final = 1_000  # of one list
DEBUG_FOR_S_MAX: Final = 3_600  # of another log level, and of tracing
TRACES_MAX: Final = 256  # that are kept
TAILS_MAX: Final = 8  # at a time
TAIL_FRAMES_MAX: Final = 1_024  # of one tail, until they are asked for
TAIL_BYTES_MAX: Final = 4 * 1024 * 1024  # the same
TAIL_PAGE_BYTES: Final = 256 * 1024  # where one answer ends
TAIL_FRAME_BYTES_MAX: Final = 512 * 1024  # of a larger frame only the size is shown
TAIL_IDLE_S: Final = 60
TAIL_WAIT_S_MAX: Final = 20
AUDIT_BODY_BYTES_MAX: Final = 4_096
AUDIT_KEPT_MIN: Final = 1_000  # whatever their age
AUDIT_QUEUE_MAX: Final = 1_024
AUDIT_GROUP_MAX: Final = 256
# Denials and acts are written down at this pace; those beyond are counted in the next record.
AUDIT_DENIALS_MAX: Final = 8  # of one connection at once
AUDIT_DENIALS_ALL_MAX: Final = 256  # of all connections together
AUDIT_ACTS_MAX: Final = 64  # of each kind, of all connections together


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `hello` announces and `[limits]` in the configuration may lower. Sizes in bytes, times in seconds."""

    key_bytes_max: int = 512
    value_bytes_max: int = 256 * 1024
    frame_bytes_max: int = 1024 * 1024
    connections_max: int = 1_024
    in_flight_max: int = 256
    watches_max: int = 64
    unsent_bytes_max: int = 4 * 1024 * 1024
    frame_finish_s: float = 10.0
    live_bytes_max: int = 256 * 1024 * 1024
    live_entries_max: int = 1_000_000
    project_bytes_max: int = 256 * 1024 * 1024
    project_entries_max: int = 1_000_000
    session_bytes_max: int = 256 * 1024 * 1024
    session_entries_max: int = 1_000_000
    database_bytes_max: int = 2 * 1024 * 1024 * 1024
    log_window_revisions: int = 100_000
    log_window_bytes: int = 256 * 1024 * 1024
    request_ids_max: int = 1_000_000
    request_id_s: int = 24 * 3600
    audit_bytes_max: int = 256 * 1024 * 1024
    audit_s: int = 30 * 24 * 3600


LIMITS: Final = Limits()

#: What the configuration may not go below: with less, the product's own clients cannot do their work.
FLOORS: Final = Limits(
    key_bytes_max=16,
    value_bytes_max=64,
    frame_bytes_max=4096,
    connections_max=4,
    in_flight_max=1,
    watches_max=1,
    unsent_bytes_max=3 * 1024 * 1024,  # a connection that is read may hold HIGH_WATER_BYTES and one more answer
    frame_finish_s=0.1,
    live_bytes_max=64 * 1024,
    live_entries_max=1,
    project_bytes_max=64 * 1024,
    project_entries_max=1,
    session_bytes_max=64 * 1024,
    session_entries_max=1,
    database_bytes_max=16 * 1024 * 1024,
    log_window_revisions=1,
    log_window_bytes=64 * 1024,
    request_ids_max=1,
    request_id_s=1,
    audit_bytes_max=64 * 1024,
    audit_s=1,
)


def outside(limits: Limits) -> str:
    """The first limit that is not between its floor and its default, as "name = value, allowed is X to Y"; else ""."""
    for field in structs.fields(Limits):
        value, least, most = (getattr(each, field.name) for each in (limits, FLOORS, LIMITS))
        if not least <= value <= most:
            return f"limits.{field.name} = {value}, allowed is {least} to {most}"
    return ""
