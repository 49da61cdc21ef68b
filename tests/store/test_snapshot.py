"""A snapshot is the entries of one revision, whatever is written while it is being sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosessiond.store import snapshot as module
from cosessiond.store.engine import Entry
from cosessiond.store.index import Index
from cosessiond.store.snapshot import Snapshots
from store.engines import id_of

PLACE = ("context", "p")
KEYS = ["a", "a/1", "a/2", "b", "b/1", "\u00e9", "\U0001f980"]


def entry(key: str, revision: int, value: bytes = b"v", project: str = "p") -> Entry:
    return Entry(id_of(key, project=project), value, 1, revision, revision, 0, "", 0, "", b"")


class Store:
    """The index and the order in which `revisions.Store` changes it."""

    def __init__(self) -> None:
        self.index = Index()
        self.snapshots = Snapshots(self.index)
        self.revision = 0

    def write(self, key: str, *, removes: bool = False, project: str = "p", value: bytes = b"v") -> None:
        self.revision += 1
        id = id_of(key, project=project)
        before = self.index.get(id)
        if before is not None:
            self.snapshots.keep(id, before)
        if removes:
            self.index.remove(id)
        else:
            self.index.put(entry(key, self.revision, value, project))

    def shown(self, prefix: str) -> list[Entry]:
        return list(self.index.scan(*PLACE, prefix))


writes = st.tuples(st.just("write"), st.sampled_from(KEYS), st.booleans(), st.sampled_from(["p", "q"]))
begins = st.tuples(st.just("begin"), st.sampled_from(["", "a", "a/", "b", "z", "\U0001f980"]))
pages = st.tuples(st.just("page"), st.integers(0, 3))


@given(st.lists(st.one_of(writes, begins, pages), max_size=60))
def test_whatever_is_written_meanwhile_each_snapshot_shows_its_own_revision(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    store = Store()
    running = []
    for step in steps:
        if step[0] == "write":
            store.write(step[1], removes=step[2], project=step[3])
        elif step[0] == "begin":
            begun = store.snapshots.begin(PLACE, step[1], store.revision, exact=False)
            assert begun is not None
            running.append((begun, store.shown(step[1]), []))
        elif running:
            begun, _, sent = running[step[1] % len(running)]
            sent += begun.page(store.index, 1)
    for begun, expected, sent in running:
        while not begun.done:
            sent.extend(begun.page(store.index, 1))
        assert sent == expected
        store.snapshots.end(begun)
    assert len(store.snapshots) == store.snapshots._old_bytes == store.snapshots._keys == 0


def test_a_page_ends_at_its_size_and_has_one_entry_at_least() -> None:
    store = Store()
    for number in range(10):
        store.write(f"k{number}", value=b"x" * 1_000)
    snapshot = store.snapshots.begin(PLACE, "", store.revision, exact=False)
    assert snapshot is not None
    assert [len(snapshot.page(store.index, 3_000)), len(snapshot.page(store.index, 1))] == [3, 1]


def test_one_key_is_one_entry() -> None:
    store = Store()
    for key in ("a", "a/1"):
        store.write(key)
    one = store.snapshots.begin(PLACE, "a", store.revision, exact=True)
    none = store.snapshots.begin(PLACE, "absent", store.revision, exact=True)
    assert one is not None and none is not None  # noqa: PT018
    assert [each.id[2] for each in one.page(store.index, 1_000)] == ["a"]
    assert none.done


def test_replaced_values_are_held_up_to_the_limit_and_the_largest_holder_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_OLD_BYTES_MAX", 2_500)
    store = Store()
    for key in KEYS:
        store.write(key, value=b"x" * 1_000)
    large = store.snapshots.begin(PLACE, "", store.revision, exact=False)
    small = store.snapshots.begin(PLACE, "b", store.revision, exact=False)
    assert large is not None and small is not None  # noqa: PT018
    store.write("a")
    store.write("a/1")
    assert store.snapshots.is_open(large)
    store.write("a/2")
    assert not store.snapshots.is_open(large)
    assert store.snapshots.is_open(small)


def test_keys_are_held_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_KEYS_MAX", 10)
    store = Store()
    for key in KEYS:
        store.write(key)
    first = store.snapshots.begin(PLACE, "", store.revision, exact=False)
    assert first is not None
    assert store.snapshots.begin(PLACE, "", store.revision, exact=False) is None
    store.snapshots.end(first)
    assert store.snapshots.begin(PLACE, "", store.revision, exact=False) is not None
