"""Damage to one file of a state directory, and what comes of it: noticed or harmless, and never served.

A store is laid down with its truth beside it, which is the specification under the same batches. Of each seed one file
is damaged: database, log of SQLite, mark, backup or manifest; bits flipped, bytes zeroed, cut, gone, or as it was half
of its life ago. Then the store is opened as a daemon opens it, and everything that can be asked of it is asked.

Rule: an answer is the right one or a refusal; every other is served damage. One kind of damage is one function.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from msgspec.structs import replace

from cosession.config import Config, StoreConfig
from cosession.errors import CosessionError
from cosession.messages.limits import Limits
from cosessiond.maintenance import keeping
from cosessiond.maintenance.choosing import choose
from cosessiond.maintenance.restore import restore
from cosessiond.maintenance.task import Task
from cosessiond.maintenance.verify import verify
from cosessiond.opening import opened, window_of
from cosessiond.process import secret
from cosessiond.store.engine import Batch, Committed, Engine, Outcome, Scrubbed, StoreBroken, StoreDamaged
from cosessiond.store.marks import Marker
from cosessiond.store.memory import MemoryEngine
from durability.pinned import pinned
from store.engines import UNBOUNDED, batch, delete, id_of, put, trim_all
from virtual import VirtualClock, VirtualEntropy

Files = dict[str, bytes]
Question = Callable[[Engine], object]

BATCHES: Final = 120
KEYS: Final = [f"k{number}" for number in range(10)]
#: Less than there is, so that old versions lie below it.
WINDOW: Final = 90
#: Of the log of SQLite, less is laid out than a daemon does, since it is written anew for every seed.
WAL_BYTES: Final = 64 * 1024
_BEGIN: Final = Scrubbed("log", 0, ("", "", ""), 0, ())


class Base(NamedTuple):
    """A store to be damaged: its files, those of it when it was half as old, and what it should answer: to the
    questions, to each batch that is repeated, and with which rows, of now or of its backup.
    """

    files: Files
    older: Files
    epoch: str
    questions: dict[str, Question]
    answers: dict[str, object]
    repeats: list[tuple[Batch, Outcome]]
    wholes: tuple[object, object]


class Found(NamedTuple):
    """What came of one seed. `what` says it in words."""

    outcome: Literal["harmless", "detected", "served"]
    what: str


class _Quiet:
    """A log that nobody reads."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _config(on_damage: Literal["refuse", "restore"]) -> Config:
    return Config(store=StoreConfig(on_damage=on_damage), limits=Limits(log_window_revisions=WINDOW))


def _batches() -> list[Batch]:
    """Puts of every size, deletions, keys that come back, each with a request id."""
    drawn = random.Random(1)
    made = []
    for number in range(BATCHES):
        key = KEYS[number % len(KEYS)]
        value = "v" * drawn.choice((10, 200, 200, 200, 5_000)) + str(number)
        write = delete(key) if number in (33, 77, 95) else put(key, value)
        made.append(batch(write, request=f"r{number}", time_ms=1_000 + number))
    return made


@contextmanager
def _task(state: Path, chance: str) -> Iterator[Task]:
    """Time stands still, and of one `chance` the same is drawn: so each store is the same, and what comes of a seed."""
    state_fd = os.open(state, os.O_RDONLY)
    try:
        drawn = VirtualEntropy(random.Random(chance))
        yield Task(state, state_fd, words=[], options={}, clock=VirtualClock(), entropy=drawn)
    finally:
        os.close(state_fd)


def _read(state: Path) -> Files:
    found = {str(path.relative_to(state)): path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()}
    return {name: pinned(content) if name.endswith("-wal") else content for name, content in found.items()}


def lay(state: Path, files: Files) -> None:
    """Write a state directory."""
    for name, content in files.items():
        path = state / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)


def base(*, killed: bool) -> Base:
    """A store that was closed in order, or killed with much of it in the log of SQLite alone."""
    config = _config("refuse")
    batches = _batches()
    middle = BATCHES // 2
    with tempfile.TemporaryDirectory() as directory, _task(Path(directory), "base") as task:
        state = task.state
        secret.read_or_make(state, task.state_fd, task.entropy.random_bytes)
        with opened(task, Marker(task.state_fd), config=config, log=_Quiet()) as (engine, _, _):
            epoch = engine.position().epoch
            engine.apply(batches[:middle])
        keeping.keep(task, "demand")
        older = _read(state)
        marker = Marker(task.state_fd)
        with opened(task, marker, config=config, log=_Quiet()) as (engine, _, _):
            for at in range(middle, BATCHES, 4):
                engine.apply(batches[at : at + 4])
                engine.settle(20)
            trim_all(engine)
            marker.write(engine.position())
            files = _read(state)
        files = files if killed else _read(state)
    window = window_of(config.limits)
    truth, half = MemoryEngine(epoch, window), MemoryEngine(epoch, window)
    truth.apply(batches)
    trim_all(truth)
    half.apply(batches[:middle])
    questions = _questions(BATCHES, truth.position().compact_revision)
    answers = {name: question(truth) for name, question in questions.items()}
    repeats = list(zip(batches, truth.apply(batches), strict=True))
    return Base(files, older, epoch, questions, answers, repeats, (_rows(truth), _rows(half)))


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(drawn: random.Random, content: bytes, _: bytes) -> bytes:
    """One bit, or a few."""
    changed = bytearray(content)
    for _ in range(drawn.choice((1, 1, 1, 8))):
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    return bytes(changed)


def zero(drawn: random.Random, content: bytes, _: bytes) -> bytes:
    """A sector or a page, wherever it begins."""
    size = drawn.choice((16, 512, 4096))
    at = drawn.randrange(len(content))
    at -= at % drawn.choice((1, size))
    return content[:at] + bytes(min(size, len(content) - at)) + content[at + size :]


def truncate(drawn: random.Random, content: bytes, _: bytes) -> bytes:
    """The end is gone."""
    return content[: drawn.randrange(len(content))]


def remove(_drawn: random.Random, _content: bytes, _older: bytes) -> None:
    """The file is gone."""


def swap(_drawn: random.Random, _content: bytes, older: bytes) -> bytes:
    """As it was before."""
    return older


KINDS: Final = (flip, zero, truncate, remove, swap)


def damaged(of: Base, seed: int) -> tuple[Files, str, str]:
    """The files with one of them damaged; which one, and how."""
    drawn = random.Random(seed)
    names = [name for name, content in of.files.items() if content and name != "secret"]
    name = drawn.choice(sorted(names))
    kind = drawn.choice(KINDS)
    content = of.files[name]
    used = len(content.rstrip(b"\0")) if name.endswith("-wal") else len(content)  # most of a log is laid out and empty
    changed = kind(drawn, content[: max(used, 1)], of.older.get(name, b""))
    files = dict(of.files)
    if changed is None:
        del files[name]
    else:
        files[name] = changed
    return files, name, kind.__name__


# -- judgement ---------------------------------------------------------------------------------------------------------


def judge(of: Base, seed: int) -> Found:
    """Damage a copy of the store, open it, and ask everything."""
    files, name, kind = damaged(of, seed)
    how = f"seed {seed}: {kind} of {name}"
    with tempfile.TemporaryDirectory() as directory, _task(Path(directory), "damaged") as task:
        lay(task.state, files)
        found: list[Found] = []
        if name.startswith("backups/"):
            found += _backup(task, of, is_changed=files.get(name) != of.files[name])
        found += _store(task, of, on_damage="restore" if seed % 4 == 0 else "refuse")
    served = [each.what for each in found if each.outcome == "served"]
    if served:
        return Found("served", f"{how}: {'; '.join(served[:3])}")
    noticed = [each.what for each in found if each.outcome == "detected"]
    return Found("detected", f"{how}: {noticed[0]}") if noticed else Found("harmless", how)


def _store(task: Task, of: Base, *, on_damage: Literal["refuse", "restore"]) -> list[Found]:
    try:
        with opened(task, Marker(task.state_fd), config=_config(on_damage), log=_Quiet()) as (engine, wrong, _):
            found = [Found("detected", each) for each in wrong]
            if engine.position().epoch != of.epoch:
                return [*found, *_restored(engine, of, is_told=bool(wrong))]
            return found + _ask(engine, of)
    except (StoreBroken, CosessionError) as error:
        return [Found("detected", str(error))]


def _restored(engine: Engine, of: Base, *, is_told: bool) -> list[Found]:
    """What the daemon, or a restore, has put in the place of a damaged store is whole, of now or of the backup."""
    rows = _rows(engine)
    if is_told and rows in of.wholes:
        return []
    return [Found("served", f"another store, told: {is_told}")]


def _rows(engine: Engine) -> list[tuple[object, ...]]:
    return [(entry.id, entry.value, entry.version, entry.mod_revision) for entry in engine.entries()]


def _backup(task: Task, of: Base, *, is_changed: bool) -> list[Found]:
    """A damaged backup is told as such, and not restored to anything but what it was."""
    found: list[Found] = []
    told = verify(task)["backups"]
    if is_changed and told and not any(each["wrong"] for each in told):
        found.append(Found("served", "a damaged backup is verified"))
    with tempfile.TemporaryDirectory() as directory, _task(Path(directory), "elsewhere") as elsewhere:
        lay(elsewhere.state, _read(task.state))
        try:
            restore(elsewhere, choose(elsewhere.state, [], latest=True))
            with opened(elsewhere, Marker(elsewhere.state_fd), config=_config("refuse"), log=_Quiet()) as (
                engine,
                _,
                _,
            ):
                found += _restored(engine, of, is_told=True)
        except (StoreBroken, CosessionError) as error:
            found.append(Found("detected", str(error)))
    return found


def _ask(engine: Engine, of: Base) -> list[Found]:
    """Every question once; each is answered as the truth is, or refused."""
    found: list[Found] = []
    for name, question in of.questions.items():
        try:
            answer = question(engine)
        except StoreDamaged as error:
            found.append(Found("detected", f"{name}: {error}"))
        except StoreBroken as error:
            return [*found, Found("detected", f"{name}: {error}")]
        else:
            if answer != of.answers[name]:
                found.append(Found("served", name))
    found += [Found("detected", each) for each in scrubbed(engine)]
    for each, right in reversed(of.repeats):  # the oldest last: those that were lost are written now
        request_id = each.origin.request_id
        try:
            (outcome,) = engine.apply([each])
        except StoreBroken as error:
            return [*found, Found("detected", f"repeat of {request_id}: {error}")]
        if getattr(outcome, "code", "") == "damaged":
            found.append(Found("detected", f"repeat of {request_id}"))
        elif not isinstance(outcome, Committed) or not outcome.repeated:
            found.append(Found("served", f"{request_id} was written twice"))
        elif outcome != right:
            found.append(Found("served", f"repeat of {request_id} is answered otherwise"))
    return found


def scrubbed(engine: Engine) -> list[str]:
    """What a whole pass of the scrub finds."""
    at, wrong = _BEGIN, []
    while at.table:
        at = engine.scrub(at, 256)
        wrong += at.wrong
    return wrong


def _questions(now: int, oldest: int) -> dict[str, Question]:
    """By what it is called."""
    asked: dict[str, Question] = {
        "position": _position,
        "entries": _rows,
        "catch-up": lambda engine: _watched(engine, oldest),
    }
    for key in KEYS:
        id = id_of(key)
        asked[f"history of {key}"] = lambda engine, id=id: engine.history(id, 50, 0)
        asked[f"pages of {key}"] = lambda engine, id=id: _pages(engine, id)
    for revision in range(oldest, now + 1, 7):
        asked[f"range at {revision}"] = lambda engine, at=revision: engine.range_at(
            "context", "p", prefix="", after="", limit=1_000, revision=at
        )
        for id in map(id_of, KEYS):
            asked[f"{id[2]} at {revision}"] = lambda engine, id=id, at=revision: engine.entry_at(id, at)
    return asked


def _watched(engine: Engine, oldest: int) -> object:
    """What a watch shows of the log: not what each change replaced, nor whether compares held, which only the answer to
    the request tells, and which the chain does not cover.
    """
    found = engine.changes(oldest - 1, 1_000, UNBOUNDED)
    bare = [[replace(each, replaced_revision=0, replaced_session="") for each in one.changes] for one in found]
    return [(one.revision, one.time_ms, one.origin, changes) for one, changes in zip(found, bare, strict=True)]


def _position(engine: Engine) -> object:
    """Without where the log begins: what the last trimming dropped may be there still."""
    at = engine.position()
    return at.epoch, at.revision, at.chain_hash, at.state_hash


def _pages(engine: Engine, id: Any) -> list[object]:
    found: list[Any] = []
    while page := engine.history(id, 3, found[-1].mod_revision if found else 0):
        found += page
    return found
