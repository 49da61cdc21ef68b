"""Telling two engines apart: the same batches into both, then every question of the protocol asked of both.

Rule: an engine is right when `differences` to the oracle is empty. Whether this file can see a fault at all is shown
by the seeded ones of `store.seeded`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

from msgspec.structs import replace

from cosessiond.store.engine import (
    Applied,
    Batch,
    BelowWindow,
    Committed,
    Engine,
    EntryCompare,
    EntryId,
    Outcome,
    Refused,
    ValuePurged,
    Write,
)
from store.engines import UNBOUNDED

#: Questions to an engine, in words, and its answers.
Answers = dict[str, object]


def differences(
    engine: Engine, oracle: Engine, batches: Sequence[Batch], *, groups: Sequence[int] = (3, 1, 2)
) -> list[str]:
    """What tells `engine` from `oracle` when both are given `batches`; empty when nothing does.

    The engine takes them in groups of these sizes over and over, the oracle one at a time. Both are then asked
    everything, trimmed, asked again, and given the last batches once more as repeats. Both must begin alike.
    """
    ids = ids_of(batches)
    found = apply_both(engine, oracle, batches, groups=groups)
    before = answers(engine, ids)
    found += unequal("before trimming", before, answers(oracle, ids))
    for each in (engine, oracle):
        while each.trim(7):
            pass
    after = answers(engine, ids)
    found += unequal("after trimming", after, answers(oracle, ids))
    lasting = {question: before.get(question) for question in after if not question.startswith("below:")}
    lasting["position"] = after["position"]
    lasting |= {question: [] for id in ids if has_ended(oracle, before, id) for question in of_history(after, id)}
    found += unequal("trimming changed", {question: after[question] for question in lasting}, lasting)
    found += apply_both(engine, oracle, [each for each in batches if each.origin.request_id], groups=groups)
    return found + unequal("after repeats", answers(engine, ids), answers(oracle, ids))


def has_ended(oracle: Engine, before: Answers, id: EntryId) -> bool:
    """Whether the window has passed the deletion of an entry that was absent `before` that."""
    rows = before[f"history of {id}, 99 before 0"]
    newest = rows[0] if isinstance(rows, list) and rows else None
    return newest is not None and newest.kind != "put" and newest.mod_revision < oracle.position().compact_revision


def of_history(answers: Answers, id: EntryId) -> list[str]:
    """The questions about the history of one entry."""
    return [question for question in answers if question.startswith(f"history of {id},")]


def apply_both(engine: Engine, oracle: Engine, batches: Sequence[Batch], *, groups: Sequence[int]) -> list[str]:
    """Apply `batches` to both, in groups to the engine and singly to the oracle; what tells them apart on the way."""
    found = []
    for group in grouped(batches, groups):
        for each, mine in zip(group, engine.apply(group), strict=True):
            (theirs,) = oracle.apply([each])
            if comparable(mine, oracle) != comparable(theirs, oracle):
                found.append(f"outcome of {each}: {mine}, expected {theirs}")
        if engine.position() != oracle.position():
            found.append(f"position: {engine.position()}, expected {oracle.position()}")
    return found


def grouped(batches: Sequence[Batch], sizes: Sequence[int]) -> Iterator[Sequence[Batch]]:
    """`batches` cut into groups of these sizes, over and over."""
    start = 0
    for size in cycle(sizes):
        if start >= len(batches):
            return
        yield batches[start : start + size]
        start += size


def comparable(outcome: Outcome, oracle: Engine) -> object:
    """An outcome without what engines may differ in: the words of a refusal, and values that a repeat may lack.

    A repeat must have the values that history or the log still show. How soon other versions go nobody promises.
    """
    if isinstance(outcome, Refused):
        return (outcome.revision, outcome.code)
    if not (isinstance(outcome, Committed) and outcome.repeated):
        return outcome
    in_log = outcome.revision >= oracle.position().compact_revision
    changes: list[Applied] = []
    for change in outcome.changes:
        shown = [row.mod_revision for row in oracle.history(change.id, UNBOUNDED, 0)]
        changes.append(change if in_log or outcome.revision in shown else replace(change, value=b""))
    return replace(outcome, changes=tuple(changes))


def ids_of(batches: Sequence[Batch]) -> list[EntryId]:
    """Every id that `batches` name, and the one that none does."""
    found: set[EntryId] = {("context", "p", "never")}
    for batch in batches:
        found |= {compare.id for compare in batch.compares if isinstance(compare, EntryCompare)}
        writes: tuple[Write, ...] = (*batch.then, *batch.otherwise)
        found |= {write.id for write in writes}
    return sorted(found)


def unequal(when: str, got: Answers, expected: Answers) -> list[str]:
    """The questions that were answered differently, or by one side only."""
    questions = list(dict.fromkeys([*got, *expected]))
    return [
        f"{when}: {question}: {got.get(question, 'not asked')}, expected {expected.get(question, 'not asked')}"
        for question in questions
        if question not in got or question not in expected or got[question] != expected[question]
    ]


def answers(engine: Engine, ids: Sequence[EntryId]) -> Answers:
    """Everything the protocol lets one ask about `ids`, at every revision of the window and just below it."""
    position = engine.position()
    found: Answers = {"position": position, "entries": list(engine.entries())}
    for id in ids:
        for limit, before in ((99, 0), (2, 0), (99, position.revision), (1, position.revision - 1)):
            found[f"history of {id}, {limit} before {before}"] = engine.history(id, limit, before)
    for revision in range(position.compact_revision, position.revision + 1):
        found |= {f"{question} at {revision}": answer for question, answer in _at(engine, ids, revision)}
    below = position.compact_revision - 1
    found["below: entry_at"] = _raised(lambda: engine.entry_at(ids[0], below))
    found["below: range_at"] = _raised(lambda: list(_pages(engine, ids[0], "", 9, below)))
    found["below: changes"] = _raised(lambda: engine.changes(below - 1, 9, UNBOUNDED))
    return found


def _at(engine: Engine, ids: Sequence[EntryId], revision: int) -> Iterator[tuple[str, object]]:
    for id in ids:
        yield f"{id}", told(lambda id=id: engine.entry_at(id, revision))
    firsts = {id[:2]: id for id in ids}
    for place, id in firsts.items():
        yield f"range {place}", told(lambda id=id: list(_pages(engine, id, "", 99, revision)))
        yield f"range {place} by 1", told(lambda id=id: list(_pages(engine, id, "", 1, revision)))
    for id in ids:
        yield f"range {id}", told(lambda id=id: list(_pages(engine, id, id[2][:-1], 2, revision)))
    yield "changes", engine.changes(revision - 1, 99, UNBOUNDED)
    yield "changes by 2", engine.changes(revision - 1, 2, UNBOUNDED)
    yield "changes of 300 bytes", engine.changes(revision - 1, 99, 300)


def _pages(engine: Engine, id: EntryId, prefix: str, limit: int, revision: int) -> Iterator[object]:
    """The pages of the range `prefix` in the space and project of `id`."""
    after = ""
    while True:
        page = engine.range_at(id[0], id[1], prefix=prefix, after=after, limit=limit, revision=revision)
        yield page
        if not page.more:
            return
        after = page.reached


def told(ask: Callable[[], object]) -> object:
    """The answer, or that it was purged."""
    try:
        return ask()
    except ValuePurged as error:
        return ("purged", error.args)


def _raised(call: Callable[[], object]) -> object:
    try:
        return call()
    except BelowWindow as error:
        return ("below the window", error.args)
