"""An independent search for an order: is there one, key by key, that fits what each client saw and when (P3)?

The search of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with the memory of Lowe (Testing for
Linearizability, 2017) as Porcupine has it: take any operation that has begun and fits the state; at an answer that was
not taken yet go back; never visit the same (set of operations, state) twice. Linearizability is local, so each key is
searched alone, a transaction as what it did to that key. Long histories are cut where nothing of the key is in flight,
into slices that begin with a state not known.

Rule: knows nothing of revisions but that equal ones are equal: no log, no order among numbers, nothing of the judge's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from durability.journal import Deed
from durability.project import ANY, Operation, State, operations_by_key

SLICE_OPERATIONS: Final = 100
SLICE_OPERATIONS_MAX: Final = 400
STEPS_MAX: Final = 200_000


class Searched(Struct, kw_only=True):
    """What came of it: `undecided` slices were too large or too entangled, and are no proof of anything."""

    slices: int = 0
    operations: int = 0
    undecided: int = 0
    words: list[str] = []


class Slice(NamedTuple):
    """Operations of one key, in the order in which they began."""

    key: str
    operations: list[Operation]


def search(deeds: Sequence[Deed], unknown: Sequence[Deed], *, slices_max: int = 1_000_000, seed: int = 1) -> Searched:
    """Search slices of the history, chosen by chance when there are more than `slices_max`."""
    found = Searched()
    slices = [each for key, ops in operations_by_key(deeds, unknown).items() for each in cut(key, ops)]
    if len(slices) > slices_max:
        slices = random.Random(seed).sample(slices, slices_max)
    for each in slices:
        order = linearizable(each.operations) if len(each.operations) <= SLICE_OPERATIONS_MAX else None
        if order is None:
            found.undecided += 1
            continue
        found.slices += 1
        found.operations += len(each.operations)
        if not order:
            names = ", ".join(operation.name for operation in each.operations[:40])
            found.words.append(f"{each.key}: there is no order of {names}")
    return found


def cut(key: str, operations: Sequence[Operation]) -> Iterator[Slice]:
    """Slices that end where nothing certain is in flight; what nobody knows the end of may happen in each later one."""
    open_: list[Operation] = []
    current: list[Operation] = []
    certain = 0
    ended = 0.0
    for operation in sorted(operations, key=lambda each: each.began_s):
        if certain >= SLICE_OPERATIONS and operation.began_s > ended:
            yield Slice(key, current)
            current, certain = list(open_), 0
        current.append(operation)
        if operation.ended_s is None:
            open_.append(operation)
        else:
            certain += 1
            ended = max(ended, operation.ended_s)
    if certain:
        yield Slice(key, current)


class _Node:
    """A call or an answer in the list of what is not yet in the order."""

    __slots__ = ("answer", "before", "behind", "bit", "operation")

    def __init__(self, operation: Operation, bit: int, answer: _Node | None) -> None:
        self.operation = operation
        self.bit = bit
        self.answer = answer  # None for an answer itself
        self.before: _Node = self
        self.behind: _Node | None = None


def linearizable(operations: Sequence[Operation], state: State = ANY) -> bool | None:
    """Whether there is an order, from `state` on; None when it was not found out within STEPS_MAX."""
    head = _listed(operations)
    taken = 0
    visited: set[tuple[int, State]] = set()
    path: list[tuple[_Node, State, int]] = []  # what was taken, the state before it, which effect it had
    node, first = head.behind, 0
    for _ in range(STEPS_MAX):
        if head.behind is None:
            return True
        assert node is not None, "the list ends with an answer, where the search turns back"
        if node.answer is None:
            if not path:
                return False
            node, state, effect = path.pop()
            taken ^= node.bit
            _put_back(node)
            first = effect + 1
            continue
        effects, with_it = node.operation.effects, taken | node.bit
        for effect in range(first, len(effects)):
            new = effects[effect](state)
            if new is not None and (with_it, new) not in visited:
                path.append((node, state, effect))
                taken, state = with_it, new
                visited.add((taken, state))
                _take_out(node)
                node = head.behind
                break
        else:
            node = node.behind
        first = 0
    return None


def _listed(operations: Sequence[Operation]) -> _Node:
    events: list[tuple[float, int, int, _Node]] = []
    for index, operation in enumerate(operations):
        answer = _Node(operation, 0, None)
        ended = float("inf") if operation.ended_s is None else operation.ended_s
        events.append((operation.began_s, 0, index, _Node(operation, 1 << index, answer)))
        events.append((ended, 1, index, answer))
    head = last = _Node(operations[0], 0, None)
    for *_, node in sorted(events, key=lambda event: event[:3]):
        last.behind, node.before = node, last
        last = node
    return head


def _take_out(node: _Node) -> None:
    for each in (node, node.answer):
        assert each is not None
        each.before.behind = each.behind
        if each.behind is not None:
            each.behind.before = each.before


def _put_back(node: _Node) -> None:
    for each in (node.answer, node):
        assert each is not None
        each.before.behind = each
        if each.behind is not None:
            each.behind.before = each
