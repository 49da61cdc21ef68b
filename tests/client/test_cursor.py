"""A watch through snapshots, interruptions and epochs, as scripts: what is fed and asked, what comes out."""

from __future__ import annotations

import pytest

from cosession.errors import Compacted, CosessionError, EpochChanged, Overloaded, error_from
from cosession.exchange.cursor import Reset, WatchCursor
from cosession.messages.watches import Watch, WatchEvent, WatchReply
from cosession.model import Change, Entry
from cosession.positions import SNAPSHOTS_MAX


def entry(key, revision):
    return Entry(key=key, value=key, version=1, create_revision=revision, mod_revision=revision)


def change(key, revision, kind="put"):
    return Change(kind=kind, key=key, version=1, mod_revision=revision)


def play(cursor, script):
    """Run a script of lines; returns what the watch delivered, as short words, and what it asked for."""
    out = []
    for line in script.strip().splitlines():
        verb, *words = line.split()
        if verb == "ask":
            request = cursor.request()
            out.append(f"ask:{request.start_revision or 'snapshot'}{'@' + request.epoch if request.epoch else ''}")
        elif verb == "attached":
            cursor.attached(WatchReply(revision=1, watch=1, epoch=words[0]))
        elif verb == "refused":
            cursor.refused(error_from(words[0], "no"))
        else:
            out += [word(item) for item in cursor.feed(event(verb, words))]
            if cursor.over:
                out.append("over")
    return " ".join(out)


def event(kind, words):
    revision = int(words[0])
    if kind == "snapshot":
        return WatchEvent(kind="snapshot", revision=revision, entries=[entry(key, 1) for key in words[1:]])
    if kind == "changes":
        return WatchEvent(kind="changes", revision=revision, changes=[change(key, revision) for key in words[1:]])
    if kind == "end":
        return WatchEvent(kind="end", revision=revision, code=words[1], message="over", data={"compact_revision": 50})
    return WatchEvent(kind=kind, revision=revision)


def word(item):
    return f"RESET:{item.mod_revision}" if isinstance(item, Reset) else f"{item.key}:{item.mod_revision}"


CASES = {
    "a snapshot, then changes, whole batches": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot 10 a b\nsnapshot 10 c\nsnapshot_end 10\nchanges 11 a b\nchanges 12 c",
        "ask:snapshot a:1 b:1 c:1 a:11 b:11 c:12",
    ),
    "after the snapshot it resumes behind the last change": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot 10 a\nsnapshot_end 10\nchanges 12 a\nask\nattached e1\nchanges 13 b",
        "ask:snapshot a:1 a:12 ask:13@e1 b:13",
    ),
    "progress moves the position": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nprogress 90\nask",
        "ask:snapshot ask:91@e1",
    ),
    "late progress does not move it back": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nchanges 20 a\nprogress 15\nask",
        "ask:snapshot a:20 ask:21@e1",
    ),
    "what was delivered is not delivered again": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nchanges 11 a\nask\nattached e1\nchanges 11 a\nchanges 12 b",
        "ask:snapshot a:11 ask:12@e1 b:12",
    ),
    "interrupted before anything was delivered: a snapshot like the first": (
        Watch(prefix="p"),
        "ask\nattached e1\nask\nattached e1\nsnapshot 10 a\nsnapshot_end 10",
        "ask:snapshot ask:snapshot a:1",
    ),
    "interrupted inside the snapshot: again, behind a reset": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot 10 a b\nask\nattached e1\nsnapshot 15 b c\nsnapshot_end 15\nchanges 16 a",
        "ask:snapshot a:1 b:1 ask:snapshot RESET:15 b:1 c:1 a:16",
    ),
    "twice": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot 10 a\nask\nattached e1\nsnapshot 15 b\nask\nattached e1\nsnapshot 17 c",
        "ask:snapshot a:1 ask:snapshot RESET:15 b:1 ask:snapshot RESET:17 c:1",
    ),
    "the second snapshot is empty: the reset says that nothing is left": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot 10 a\nask\nattached e1\nsnapshot_end 15",
        "ask:snapshot a:1 ask:snapshot RESET:15",
    ),
    "another epoch, said when resuming": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 9\nask\nrefused epoch_changed\nask\nattached e2\nsnapshot_end 99\nask",
        "ask:snapshot ask:10@e1 ask:snapshot RESET:99 ask:100@e2",
    ),
    "another epoch, said by the end of the watch": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nend 10 epoch_changed\nask\nattached e2\nsnapshot_end 99",
        "ask:snapshot over ask:snapshot RESET:99",
    ),
    "a consumer that was cut goes on where it was": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nchanges 11 a\nend 11 overloaded\nask\nattached e1\nchanges 12 b",
        "ask:snapshot a:11 over ask:12@e1 b:12",
    ),
    "the daemon leaves": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nend 10 shutting_down\nask",
        "ask:snapshot over ask:11@e1",
    ),
    "from a revision: no snapshot, and resumed from there": (
        Watch(prefix="p", start_revision=5, epoch="e1"),
        "ask\nattached e1\nask\nattached e1\nchanges 7 a\nask",
        "ask:5@e1 ask:5@e1 a:7 ask:8@e1",
    ),
    "an event of a newer daemon is passed over": (
        Watch(prefix="p"),
        "ask\nattached e1\nsnapshot_end 10\nask",
        "ask:snapshot ask:11@e1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_script(name):
    watch, script, expected = CASES[name]
    assert play(WatchCursor(watch), script) == expected


@pytest.mark.parametrize(
    ("watch", "script", "error"),
    [
        (Watch(), "ask\nattached e1\nsnapshot_end 10\nend 10 compacted", Compacted),
        (Watch(start_revision=5), "ask\nattached e1\nend 10 compacted", Compacted),
        (Watch(start_revision=5), "ask\nattached e1\nend 10 epoch_changed", EpochChanged),
        (Watch(start_revision=5), "ask\nrefused epoch_changed", EpochChanged),
        (Watch(), "ask\nrefused epoch_changed", EpochChanged),
        (Watch(), "ask\nattached e1\nsnapshot_end 10\nask\nrefused compacted", Compacted),
        (Watch(), "ask\nattached e1\nsnapshot_end 10\nask\nrefused overloaded", Overloaded),
        (Watch(), "ask\nattached e1\nsnapshot_end 10\nend 10 internal", CosessionError),
    ],
)
def test_ends_for_good(watch, script, error):
    with pytest.raises(error):
        play(WatchCursor(watch), script)


def test_compacted_says_where_the_log_begins():
    with pytest.raises(Compacted) as caught:
        play(WatchCursor(Watch()), "ask\nattached e1\nsnapshot_end 10\nend 10 compacted")
    assert caught.value.data["compact_revision"] == 50


def test_a_snapshot_that_never_ends_is_given_up():
    cursor = WatchCursor(Watch(prefix="p"))
    with pytest.raises(Overloaded, match="narrower"):
        play(cursor, "ask\nattached e1\nsnapshot 10 a\n" * (SNAPSHOTS_MAX + 1))


def test_finished_snapshots_do_not_count_against_later_ones():
    cursor = WatchCursor(Watch(prefix="p"))
    again = "ask\nattached e1\nsnapshot_end 10\nend 10 epoch_changed\n"
    assert "over" in play(cursor, again * (3 * SNAPSHOTS_MAX))


def test_what_the_request_asked_for_is_kept():
    watch = Watch(prefix="p", project="proj", space="$sessions")
    cursor = WatchCursor(watch)
    assert cursor.request() == watch
    cursor.attached(WatchReply(revision=1, watch=1, epoch="e1"))
    cursor.feed(event("snapshot_end", ["4"]))
    assert cursor.request() == Watch(prefix="p", project="proj", space="$sessions", start_revision=5, epoch="e1")
    assert WatchCursor(Watch(key="k")).request() == Watch(key="k")


def test_where_it_stands():
    cursor = WatchCursor(Watch())
    assert (cursor.revision, cursor.synced) == (0, False)
    play(cursor, "ask\nattached e1\nsnapshot 10 a")
    assert (cursor.revision, cursor.synced, cursor.epoch) == (10, False, "e1")
    play(cursor, "snapshot_end 10\nchanges 12 a")
    assert (cursor.revision, cursor.synced) == (12, True)
    explicit = WatchCursor(Watch(start_revision=5, epoch="e0"))
    assert (explicit.revision, explicit.synced, explicit.epoch) == (4, True, "e0")


def test_a_snapshot_comes_as_puts():
    cursor = WatchCursor(Watch())
    cursor.attached(WatchReply(revision=1, watch=1, epoch="e1"))
    found = Entry(key="a", value=[1], version=3, create_revision=2, mod_revision=9, session="s", time=1.5)
    items = cursor.feed(WatchEvent(kind="snapshot", revision=10, entries=[found]))
    assert items == [
        Change(kind="put", key="a", value=[1], version=3, create_revision=2, mod_revision=9, session="s", time=1.5)
    ]


def test_a_reset_reads_like_a_change():
    assert set(Reset.__struct_fields__) == set(Change.__struct_fields__)
