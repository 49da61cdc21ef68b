"""The nouns of the product as structs: what the library hands out and what replies are made of.

Rule: plain frozen data, no behaviour beyond reading it. Times are seconds since the Unix epoch (wall clock, for
display and retention only), revisions are positive integers, sessions are ids ("" = nobody).
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

ChangeKind = Literal["put", "delete", "expire"]

#: The spaces of the store; only `context` is written by users, the rest by their own operations.
SPACES = ("context", "$sessions", "$claims", "$mail", "$checkpoints")
GLOBAL = "global"


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the context as it stands at some revision.

    `key` is its name, `value` JSON data. `version` counts from 1 within one life of the key; `create_revision` is the
    revision that began this life, `mod_revision` the last that wrote it. `session` is the id of who wrote it last ("" =
    nobody), `time` when, in seconds since the Unix epoch. `ttl_s` is 0 without a lease of its own, `ephemeral` the id
    of the session it lives with ("" = none).
    """

    key: str
    value: Any
    version: int
    create_revision: int
    mod_revision: int
    session: str = ""
    time: float = 0.0
    ttl_s: float = 0.0
    ephemeral: str = ""


class Change(Struct, frozen=True, kw_only=True):
    """One committed change of one entry, as a watch delivers it: `kind` says what happened to `key`.

    `value` is None for a deletion or expiry, and when it was `purged`. For a deletion or expiry `version` is 0 and
    `create_revision` names the life that ended. `mod_revision` is the revision of the change, the same for all changes
    of one batch. `session` is the id of who wrote it ("" = nobody), `time` when, in seconds since the Unix epoch.
    """

    kind: ChangeKind
    key: str
    value: Any = None
    version: int = 0
    create_revision: int = 0
    mod_revision: int
    session: str = ""
    time: float = 0.0
    purged: bool = False


class Version(Struct, frozen=True, kw_only=True):
    """One kept version of an entry, newest first in `history`. A deletion is a version (`kind`, `value` None); of one
    that was `purged` the value is gone (None), the rest is kept.

    `version`, `create_revision` and `mod_revision` as in `Entry`; `time` in seconds since the Unix epoch. `session`,
    `instance`, `operation` and `request_id` say where it came from; `instance` is "pid@start time" of the process that
    wrote it, as the kernel told, "" for the daemon itself.
    """

    kind: ChangeKind
    value: Any = None
    version: int
    create_revision: int
    mod_revision: int
    session: str = ""
    instance: str = ""
    operation: str = ""
    request_id: str = ""
    time: float = 0.0
    purged: bool = False


class Difference(Struct, frozen=True, kw_only=True):
    """One change between two values; all in order are a JSON patch (RFC 6902) from the one to the other.

    `op` is what is done at `path`, a JSON pointer (RFC 6901), "" for the whole value. `old` is None for an addition,
    `new` for a removal.
    """

    op: Literal["add", "remove", "replace"]
    path: str
    old: Any = None
    new: Any = None


class Attribution(Struct, frozen=True, kw_only=True):
    """Who wrote one part of a value, as `blame` tells: the newest version that changed what `path` points to (a JSON
    pointer, RFC 6901), where `value` is now.

    With `mod_revision` 0 it is older than all that is kept: the version at `oldest_revision`, the oldest kept, may have
    found it there. The other fields are those of `Version`.
    """

    path: str
    value: Any
    mod_revision: int = 0
    session: str = ""
    instance: str = ""
    operation: str = ""
    request_id: str = ""
    time: float = 0.0
    oldest_revision: int = 0


class Written(Struct, frozen=True, kw_only=True):
    """What one write of a batch did to its entry, without the value the writer already has.

    `kind` is "put" or "delete", `key` the entry, `version`, `create_revision`, `mod_revision` as in `Entry` (`version`
    0 after a deletion), `session` the id of who wrote ("" = nobody), `time` when, in seconds since the Unix epoch.
    `replaced_revision` and `replaced_session` name the version it replaced (0 and "" when there was none).
    """

    kind: ChangeKind
    key: str
    version: int
    create_revision: int
    mod_revision: int
    session: str = ""
    time: float = 0.0
    replaced_revision: int = 0
    replaced_session: str = ""


class Instance(Struct, frozen=True, kw_only=True):
    """One process run of a session: what no other process on this machine ever shares.

    `boot_id` is one boot of the machine, `pid` the process. `start_time` counts clock ticks since boot (Linux) or
    microseconds since the epoch (macOS); opaque otherwise. `judgeable` is False for a process of another host or pid
    namespace, whose pid says nothing here.
    """

    boot_id: str
    pid: int
    start_time: int
    judgeable: bool = True


SessionState = Literal["active", "idle", "suspect", "closed", "superseded", "crashed", "lost"]
LIVE_STATES = ("active", "idle", "suspect")
TERMINAL_STATES = ("closed", "superseded", "crashed", "lost")


class Session(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The record of a session, kept as one entry of `$sessions` under its `id`.

    What it said of itself: `name`, `agent`, `model`, `project`, `worktree`, `branch`, `cwd`, `host`, `transcript`, and
    `heartbeat_s`, the sign of life that it promised (0: none). `drills`: others may simulate its crash. `instances` are
    its processes, of an ended session those it ended with. `registered_at`, `changed_at` (when this record was last
    written) and `closed_at` (0: not closed gracefully) are in seconds since the Unix epoch. `replaces` and
    `replaced_by` are ids of sessions before and after it ("" = none); so are `recovers` and `recovered_by`, after a
    crash: `checkpoint` is then the id of the checkpoint that it took over. `crashes` are the times of the last crashes
    of this work, its own and those of the sessions it recovers, as far as they still count.

    `reason` is the rule that led to `state`; `evidence` the lines it rests on; `detected_ms` how long after the first
    sign of death the verdict was reached, in milliseconds (0 when it does not apply); `drilled` says that its crash was
    only simulated.
    """

    id: str
    name: str = ""
    state: SessionState = "active"
    agent: str = ""
    model: str = ""
    project: str = GLOBAL
    worktree: str = ""
    branch: str = ""
    cwd: str = ""
    host: str = ""
    transcript: str = ""
    instances: tuple[Instance, ...] = ()
    heartbeat_s: float = 0.0
    registered_at: float = 0.0
    changed_at: float = 0.0
    closed_at: float = 0.0
    replaces: str = ""
    replaced_by: str = ""
    recovers: str = ""
    recovered_by: str = ""
    checkpoint: str = ""
    crashes: tuple[float, ...] = ()
    reason: str = ""
    evidence: tuple[str, ...] = ()
    detected_ms: float = 0.0
    drills: bool = False
    drilled: bool = False


ClaimState = Literal["held", "orphaned"]
ClaimHold = Literal["activity", "process"]


class Claim(Struct, frozen=True, kw_only=True):
    """A lease of a `session` on `targets`, kept as one entry of `$claims` under its `id`.

    Each target is "path:" and a path or glob relative to the root of the `worktree`, "name:" and a name of the
    `project`, or "machine:" and a name of this machine. `shared` claims stand beside one another, an exclusive one
    beside none that overlaps it. `purpose` is what the holder said it is for.

    `token` is the fencing token: the revision that began this claim, larger than that of any before it. A claim whose
    `hold` is "activity" ends `ttl_s` or `idle_hold_s` seconds, whichever is longer, after the last activity of its
    session, an `automatic` one `ttl_s` after its last renewal, one of "process" with its session; `expires_in_s` is
    what is left of it, -1 where only the session ends it. After the crash of its session its `state` is "orphaned" for
    a while, in which whoever recovers the session may adopt it (`adopted_from`: the claim it was). `granted_at` and
    `orphaned_at` are in seconds since the Unix epoch, `reason` says how it came to its state.
    """

    id: str
    session: str
    project: str = GLOBAL
    worktree: str = ""
    targets: tuple[str, ...] = ()
    shared: bool = False
    purpose: str = ""
    hold: ClaimHold = "activity"
    automatic: bool = False
    ttl_s: float = 0.0
    idle_hold_s: float = 0.0
    state: ClaimState = "held"
    granted_at: float = 0.0
    orphaned_at: float = 0.0
    adopted_from: str = ""
    reason: str = ""
    token: int = 0
    expires_in_s: float = 0.0


class Blocker(Struct, frozen=True, kw_only=True):
    """What stands in the way of a claim: the `claim` of another session, or one that waits ahead (`waiting`).

    `name`, `agent` and `session_state` are those of its session, `overlaps` the pairs of targets (wanted, in the way),
    at most eight; `ahead` is how many others wait for it.
    """

    claim: Claim
    waiting: bool = False
    name: str = ""
    agent: str = ""
    session_state: str = ""
    overlaps: tuple[tuple[str, str], ...] = ()
    ahead: int = 0


LetterState = Literal["queued", "delivered", "read"]
Importance = Literal["low", "normal", "high"]


class Letter(Struct, frozen=True, kw_only=True):
    """A letter from the session `sender` to the session `to`, kept as one entry of `$mail` under `to`/`id`.

    `text` is what it says, `importance` how much it matters to its sender. `sender_name` and `project` are those of the
    sender when it wrote. `thread` is the id of the letter that began the exchange, its own where it began one, or a
    word that both sides agreed on. `to_all`: it went to all sessions of the project, and this is one of the copies,
    which share their `id`.

    `state` goes from "queued" to "delivered" (handed over once) to "read" (its reader said so). `sent_at`,
    `delivered_at` and `read_at` are in seconds since the Unix epoch, 0: not yet. A letter that was passed on to the
    successor of an ended session names that in `passed_from`, and in `first_revision` the revision that first kept it.
    """

    id: str
    to: str
    sender: str
    sender_name: str = ""
    project: str = GLOBAL
    text: str = ""
    thread: str = ""
    importance: Importance = "normal"
    to_all: bool = False
    state: LetterState = "queued"
    sent_at: float = 0.0
    delivered_at: float = 0.0
    read_at: float = 0.0
    passed_from: str = ""
    first_revision: int = 0


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision of a checkpoint: the `choice`, its `rationale`, the `alternatives` that were dropped, the
    `trade_offs` that were taken, the `validation` that it held. `extra`: what else was said of it.
    """

    choice: str
    rationale: str = ""
    alternatives: tuple[str, ...] = ()
    trade_offs: str = ""
    validation: str = ""
    extra: dict[str, Any] = {}


class FileFact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file as its client saw it: `path` relative to the worktree, `sha256` of its content in hexadecimal, and
    `size_bytes`.

    Without a hash `note` says why: it is deleted, no plain file, too large, or could not be read in time.
    """

    path: str
    sha256: str = ""
    size_bytes: int = 0
    note: str = ""


class GitFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a git worktree stood, as its client saw it: the commit `head` ("" before the first), the `branch` ("" when
    detached), the top of the `worktree`, the `dirty` files (changed and not committed, or new), and how many `more` of
    those are not listed. `note` says what could not be found out.
    """

    head: str = ""
    branch: str = ""
    worktree: str = ""
    dirty: tuple[FileFact, ...] = ()
    more: int = 0
    note: str = ""


class ClaimFact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A claim that the session of a checkpoint held when it was saved: its `targets` in a `worktree`, whether `shared`,
    and its `purpose`.
    """

    targets: tuple[str, ...]
    shared: bool = False
    purpose: str = ""
    worktree: str = ""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The working state of a `session` of a `project` as it was saved; `id` is the session's id, a slash, and a ULID.

    What the session said: its `task`, what is `done`, what is `pending`, the `next_step`, its `decisions`, approaches
    that `failed`, `files` with hashes, and whatever else it wanted kept (`extra`). Beside it: `git` facts as its client
    saw them, the `claims` that it held, and how many texts were `redacted` because they looked like secrets.

    `number` counts the checkpoints of the session from 1. `hash` is over all of it but `hash` and `revision`, with the
    id and the hash (`parent_hash`) of the `parent`, the checkpoint before ("" for the first). `automatic`: nobody
    asked for it. `time` is in seconds since the Unix epoch, `revision` that of the store which wrote it.
    """

    id: str
    session: str
    project: str = GLOBAL
    number: int = 1
    parent: str = ""
    parent_hash: str = ""
    time: float = 0.0
    automatic: bool = False
    redacted: int = 0
    task: str = ""
    done: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    next_step: str = ""
    decisions: tuple[Decision, ...] = ()
    failed: tuple[str, ...] = ()
    files: tuple[FileFact, ...] = ()
    git: GitFacts | None = None
    claims: tuple[ClaimFact, ...] = ()
    extra: dict[str, Any] = {}
    hash: str = ""
    revision: int = 0


class CheckpointSummary(Struct, frozen=True, kw_only=True):
    """A checkpoint of a `session` of a `project` without most of its content: fields as in `Checkpoint`, `task` and
    `next_step` cut to 200 characters. `size_bytes` is what it takes; `damaged` says what is wrong with it, "" when
    nothing is.
    """

    id: str
    session: str
    project: str = GLOBAL
    number: int = 0
    parent: str = ""
    time: float = 0.0
    automatic: bool = False
    redacted: int = 0
    task: str = ""
    next_step: str = ""
    size_bytes: int = 0
    hash: str = ""
    revision: int = 0
    damaged: str = ""


#: What a checkpoint is worth: hash and chain hold; the newest is damaged or missing, and this is an older one; none.
Standing = Literal["VERIFIED", "RECONSTRUCTED", "UNKNOWN"]


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One record of the audit: `kind` is what sort of thing happened, `operation` which one, `outcome` how it ended.

    `id` counts from 1 within an epoch, without gaps; `time` is in seconds since the Unix epoch. `project` and
    `session`: whom it concerns, or who asked. `instance`: the process that asked, as `pid@start_time`. `subject`: what
    it was about: a key, a session, a version. `facts` has a few more words, by kind; never a value.
    """

    id: int
    time: float
    kind: str
    project: str = ""
    session: str = ""
    operation: str = ""
    instance: str = ""
    subject: str = ""
    outcome: str = ""
    facts: dict[str, Any] = {}


class Backup(Struct, frozen=True, kw_only=True):
    """One backup of the whole store, a file of the daemon's machine.

    `state` is "valid" when it can be restored, as far as can be seen without reading it: it was read from end to end
    before it got its `name`. Else it is "damaged", or one of its two files is missing: "no_manifest", "no_database".
    `reason` says why it was made; `revision` of `epoch` is where the store stood, with so many live `entries`, and
    `time` when, in seconds since the Unix epoch. Its file has `size_bytes`, its database that `schema`, and the daemon
    that made it had that `version`. Nothing but the size is known without a manifest.
    """

    name: str
    state: Literal["valid", "damaged", "no_manifest", "no_database"]
    reason: str = ""
    epoch: str = ""
    revision: int = 0
    entries: int = 0
    size_bytes: int = 0
    time: float = 0.0
    schema: int = 0
    version: str = ""
