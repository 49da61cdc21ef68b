"""Every limit of the wire and the store, named, with units last. The daemon may lower them, never raise them.

Rule: a number that bounds something a peer can send stands here and nowhere else; `client/PROTOCOL.md` lists
them all and a test compares the two.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

PROTOCOL_VERSION: Final = 1
PROTOCOL_OLDEST: Final = 1

# Hard bounds of the protocol that no configuration touches.
PROJECT_BYTES_MAX: Final = 1024
REQUEST_ID_BYTES_MAX: Final = 64
METHOD_BYTES_MAX: Final = 64
VALUE_DEPTH_MAX: Final = 32
# A value that is not in the shortest MessagePack form is checked by slower code, bounded by this.
VALUE_NODES_SLOW_MAX: Final = 131_072
BATCH_WRITES_MAX: Final = 128
BATCH_BYTES_MAX: Final = 960 * 1024
BATCH_COMPARES_MAX: Final = 128
RANGE_COMPARES_MAX: Final = 8  # each may look at every entry that is newer than its bound
RANGE_ENTRIES_MAX: Final = 1_000
RANGE_BYTES_MAX: Final = 1024 * 1024 - 64 * 1024  # a page and its envelope stay inside one frame
VERSIONS_KEPT: Final = 50
TTL_S_MAX: Final = 366 * 24 * 3600
NAME_BYTES_MAX: Final = 256
TEXT_BYTES_MAX: Final = 4096
SESSION_INSTANCES_MAX: Final = 16
SESSION_EPHEMERALS_MAX: Final = 100  # all of them expire in the one batch that ends the session
SESSIONS_LIVE_MAX: Final = 10_000
SESSIONS_ENDED_KEPT: Final = 10_000
COMMIT_QUEUE_MAX: Final = 16_384
COMMIT_QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
COMMIT_GROUP_MAX: Final = 256
COMMIT_GROUP_BYTES_MAX: Final = 4 * 1024 * 1024
REQUEST_IDS_KEPT_MIN: Final = 10_000  # whatever their age
SNAPSHOT_KEYS_MAX: Final = 8_000_000  # of all snapshots that are being sent
SNAPSHOT_OLD_BYTES_MAX: Final = 64 * 1024 * 1024
READ_QUEUE_MAX: Final = 4_096
DECIDE_ATTEMPTS_MAX: Final = 8


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
    database_bytes_max: int = 2 * 1024 * 1024 * 1024
    log_window_revisions: int = 100_000
    log_window_bytes: int = 256 * 1024 * 1024
    request_ids_max: int = 1_000_000
    request_id_s: int = 24 * 3600


LIMITS: Final = Limits()
