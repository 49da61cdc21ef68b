"""What is drawn once for each run: how many clients, how small the limits, which faults.

The limits of the daemon are lowered until a run of seconds meets all of them. Rule: everything follows from the seed,
and each field can be set by hand, which is how a failing run is made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from random import Random
from types import ModuleType
from typing import Any, Final

from cosession.messages.limits import Limits
from cosessiond.claims import holding
from cosessiond.mail import boxes
from cosessiond.server import admission as server_admission
from cosessiond.server import assembly, conversation
from cosessiond.server.handlers import purge as purge_handler
from cosessiond.server.handlers import revert as revert_handler
from cosessiond.server.handlers import sessions as session_handlers
from cosessiond.sessions import admission, identity, planning
from cosessiond.sessions.planning import SessionLimits
from cosessiond.sessions.registry import Registry
from cosessiond.sessions.verdict import Policy
from cosessiond.store import commit, pacing, revisions, watch
from cosessiond.store.engine import Window

#: In the place of the real one, so that a run sees its end.
LOCK_DELAY_S: Final = 1.5
#: Unread letters of one box, likewise.
BOX_LETTERS_MAX: Final = 6
BOOT: Final = "boot-of-the-simulation"
UID: Final = 1000
FAULTS: Final = (
    "crash",  # SIGKILL of the daemon
    "after_apply",  # the same, between a commit and its publication
    "io_error",  # a commit of which nobody knows whether it happened
    "stop",  # SIGTERM
    "cut",  # a client drops its connection, at any byte
    "kill",  # a client process dies
    "slow",  # a client stops reading for a while
    "disk_full",
    "stall",  # the disk takes long
    "wall",  # the wall clock is set, by hours
)


@dataclass(kw_only=True)
class Knobs:
    """One run. Times in seconds of the virtual clock."""

    seed: int
    engine: str = "memory"
    clients: int = 3
    duration_s: float = 3.0
    think_s: float = 0.03
    faults: frozenset[str] = frozenset(FAULTS)
    window_revisions: int = 100
    window_versions: int = 50
    look_rows: int = 64
    purge_rows: int = 64
    kernel_bytes: int = 2048
    chunk_max: int = 4096
    value_bytes: int = 200
    high_water: int = 8192
    group_max: int = 256
    commit_queue: int = 16_384
    read_queue: int = 4_096
    upkeep_every: int = 16
    checkpoint_bytes: int = 8 * 1024 * 1024
    trim_rows: int = 16
    catch_up_rows: int = 256
    catch_up_reads: int = 64
    snapshot_bytes: int = 65_536
    progress_parts: int = 8
    in_flight: int = 64
    frame_finish_s: float = 10.0
    ephemerals: int = 100
    sessions_live: int = 10_000
    entries_live: int = 1_000_000
    kernel_tells: bool = True
    early_timer: bool = False
    claims: bool = False
    mail: bool = False

    def limits(self) -> Limits:
        """The daemon's, and what it tells its clients."""
        return Limits(
            in_flight_max=self.in_flight,
            watches_max=4,
            unsent_bytes_max=4 * self.high_water + 65_536,  # the largest answer is not lowered
            frame_finish_s=self.frame_finish_s,
            live_entries_max=self.entries_live,
            log_window_revisions=self.window_revisions,
        )

    def window(self) -> Window:
        """The engine's."""
        return Window(log_revisions=self.window_revisions, versions=self.window_versions)

    def policy(self) -> Policy:
        """The cascade's numbers: idle after one second, lost after four."""
        return Policy(missed_max=3, idle_after_s=1.0, lost_after_s=4.0)

    def changed(self) -> str:
        """What differs from the plainest run, for people."""
        plain = Knobs(seed=self.seed)
        names = [field.name for field in fields(self)]
        told = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}
        if "faults" in told:
            told["faults"] = ",".join(sorted(self.faults)) or "none"
        return " ".join(f"{name}={value}" for name, value in told.items())


def draw(seed: int, **fixed: Any) -> Knobs:
    """The knobs of a seed; `fixed` ones are as given."""
    random = Random(f"{seed}/knobs")
    pick = random.choice
    few = {fault for fault in FAULTS if random.random() < 0.5}
    drawn: dict[str, Any] = {
        "clients": random.randint(2, 4),
        "duration_s": random.uniform(1.5, 3.5),
        "think_s": pick((0.01, 0.02, 0.04)),
        "faults": pick((frozenset(FAULTS), frozenset(few), frozenset(few), frozenset())),
        "window_revisions": pick((6, 20, 60, 100_000)),
        "window_versions": pick((3, 8, 50)),
        "kernel_bytes": pick((300, 2048, 100_000)),
        "chunk_max": pick((40, 1000, 65_536)),
        "value_bytes": pick((0, 100, 800)),
        "high_water": pick((8192, 8192, 65_536)),
        "group_max": pick((1, 4, 256)),
        "commit_queue": pick((16_384, 16_384, 16_384, 8)),
        "read_queue": pick((4_096, 4_096, 4_096, 2)),
        "upkeep_every": pick((4, 16, 256)),
        "trim_rows": pick((1, 16, 256)),
        "catch_up_rows": pick((1, 8, 256)),
        "catch_up_reads": pick((1, 2, 64)),
        "snapshot_bytes": pick((300, 2000, 65_536)),
        "progress_parts": pick((4, 8)),
        "in_flight": pick((4, 16, 256)),
        "frame_finish_s": pick((1.0, 10.0)),
        "sessions_live": pick((3, 10_000)),
        "entries_live": pick((12, 1_000_000, 1_000_000)),
        "kernel_tells": random.random() < 0.6,
        "early_timer": random.random() < 0.3,
        "ephemerals": pick((2, 100, 100)),
        "checkpoint_bytes": pick((20_000, 200_000)),
        "look_rows": pick((1, 3, 64)),
        "purge_rows": pick((1, 3, 64)),
    }
    drawn["claims"] = Random(f"{seed}/claims").random() < 0.5
    drawn["mail"] = Random(f"{seed}/mail").random() < 0.4
    return Knobs(seed=seed, **(drawn | fixed))


@contextmanager
def applied(knobs: Knobs, facts_of: Callable[[int], object]) -> Iterator[None]:
    """The lowered limits, and the invented processes in the place of the machine's, while a run lasts."""
    real_instance_for = admission.instance_for

    def instance_for(pid: int, peer: Any, ancestry: Any) -> Any:
        return real_instance_for(pid, peer, ancestry, owner_of=lambda _: UID, namespace_is_ours=lambda _: True)

    session_limits = SessionLimits(ended_kept=6, live_max=knobs.sessions_live)
    patches: list[tuple[ModuleType, str, Any]] = [
        (identity, "facts", facts_of),
        (admission, "boot_id", lambda: BOOT),
        (session_handlers, "instance_for", instance_for),
        (revert_handler, "VERSIONS_KEPT", knobs.window_versions),
        (revert_handler, "LOOK_ROWS", knobs.look_rows),
        (purge_handler, "PURGE_ROWS", knobs.purge_rows),
        (assembly, "Registry", partial(Registry, policy=knobs.policy(), limits=session_limits, boot=BOOT)),
        (holding, "LOCK_DELAY_S", LOCK_DELAY_S),
        (boxes, "MAIL_BOX_LETTERS_MAX", BOX_LETTERS_MAX),
        (boxes, "MAIL_READ_KEPT", BOX_LETTERS_MAX // 2),
        (conversation, "HIGH_WATER_BYTES", knobs.high_water),
        (server_admission, "SESSION_EPHEMERALS_MAX", knobs.ephemerals),
        (planning, "SESSION_EPHEMERALS_MAX", knobs.ephemerals),
        (commit, "COMMIT_GROUP_MAX", knobs.group_max),
        (pacing, "TRIM_DUE_BATCHES", knobs.upkeep_every),
        (pacing, "MOVE_DUE_BYTES", knobs.checkpoint_bytes),
        (pacing, "SLICE_ROWS", knobs.trim_rows),
        (revisions, "COMMIT_QUEUE_MAX", knobs.commit_queue),
        (revisions, "READ_QUEUE_MAX", knobs.read_queue),
        (watch, "CATCH_UP_ROWS", knobs.catch_up_rows),
        (watch, "CATCH_UP_READS_MAX", knobs.catch_up_reads),
        (watch, "SNAPSHOT_BYTES", knobs.snapshot_bytes),
        (watch, "PROGRESS_PARTS", knobs.progress_parts),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    for module, name, value in patches:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
