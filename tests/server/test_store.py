"""What the store promises, asked over the socket: across restarts, beyond the log window, at its limits.

What needs no restart and no waiting is in scripts/store_*.txt.
"""

from __future__ import annotations

from typing import Any

import pytest

from harness import Daemon
from rawclient import ENCODINGS, Json, Pack, Peer
from server.daemons import configure, eventually, serving

BOTH = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)


def watched_until(peer: Peer, revision: int) -> list[dict[str, Any]]:
    """The events of a watch up to the one that reaches `revision`."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["revision"] < revision:
        found = peer.next()
        assert found.kind == "event", found
        events.append(found.body)
    return events


# -- across restarts -------------------------------------------------------------------------------------------------


@BOTH
def test_a_request_repeated_after_sigkill_is_the_same_request(daemon, encoding):
    calls: list[tuple[str, dict[str, Any]]] = [
        ("put", {"key": "a", "value": {"n": 1}, "request_id": "r-put"}),
        ("merge", {"key": "a", "patch": {"m": 2}, "request_id": "r-merge"}),
        ("add", {"key": "n", "number": 2, "request_id": "r-add"}),
        ("append", {"key": "l", "values": [1, [2]], "request_id": "r-append"}),
        ("delete", {"key": "a", "request_id": "r-delete"}),
        ("txn", {"then": [{"op": "put", "key": "b", "value": 1}], "request_id": "r-txn"}),
    ]
    with encoding(daemon.socket) as peer:
        first = [peer.reply(method, **params) for method, params in calls]
        revision = peer.reply("ping")["revision"]
    daemon.kill()
    daemon.start()
    with encoding(daemon.socket) as peer:
        again = [peer.reply(method, **params) for method, params in calls]
        assert [each.pop("repeated") for each in first] == [False] * len(calls)
        assert [each.pop("repeated") for each in again] == [True] * len(calls)
        for each in (*first, *again):
            del each["revision"]
        assert again == first, "the original outcomes, values included"
        assert peer.reply("ping")["revision"] == revision, "and nothing was written"
        assert peer.code("put", key="a", value={"n": 2}, request_id="r-put") == "request_id_reused"


def test_the_request_ids_of_one_encoding_count_in_the_other(shared_daemon):
    params = {"key": "either", "value": {"b": 1, "a": [2, None, 1.5]}, "request_id": "either"}
    with Json(shared_daemon.socket) as json, Pack(shared_daemon.socket) as packed:
        written = json.reply("put", **params)["written"]
        assert packed.reply("put", **params)["written"] == written
        assert packed.reply("put", **params)["repeated"]


def test_everything_is_as_it_was_after_sigkill_and_after_an_orderly_stop(daemon):
    def seen() -> list[Any]:
        with Pack(daemon.socket) as peer:
            whole = [peer.reply("range"), peer.reply("range", project="p"), peer.reply("history", key="a")]
            whole += [peer.reply("range", at_revision=revision) for revision in range(1, 7)]
            return [{"epoch": peer.reply("ping")["epoch"]}, *whole]

    with Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=[1])
        peer.reply("put", key="a", value=[2], ttl_s=3600)
        peer.reply("put", key="b", value="two", project="p")
        peer.reply("delete", key="a")
        peer.reply(
            "txn", then=[{"op": "put", "key": "a", "value": None}, {"op": "merge", "key": "c", "patch": {"x": 1}}]
        )
        peer.reply("put", key="d", value=0.25)
    before = seen()
    daemon.kill()
    daemon.start()
    assert seen() == before
    daemon.restart()
    assert seen() == before


def test_a_lease_goes_on_after_sigkill_and_ends_then(daemon):
    """It has its full time again, so it may last longer, and it never ends twice."""
    with Pack(daemon.socket) as peer:
        revision = peer.reply("put", key="leased", value=1, ttl_s=0.5)["written"]["mod_revision"]
        peer.reply("put", key="kept", value=1, ttl_s=3600)
    daemon.kill()
    daemon.start()
    with Pack(daemon.socket) as peer:
        peer.reply("watch", key="leased", start_revision=revision + 1)
        (event,) = watched_until(peer, revision + 2)
        assert [change["kind"] for change in event["changes"]] == ["expire"]
        assert [version["kind"] for version in peer.reply("history", key="leased")["versions"]] == ["expire", "put"]
        assert peer.reply("get", key="kept")["entry"]["ttl_s"] == 3600


@BOTH
def test_a_watch_resumes_over_sigkill_without_a_gap_and_without_a_repeat(daemon, encoding):
    with encoding(daemon.socket) as watcher, Pack(daemon.socket) as writer:
        epoch = watcher.reply("watch", prefix="w")["epoch"]
        assert watcher.next().body["kind"] == "snapshot_end"
        for number in range(1, 6):
            writer.reply("put", key="w", value=number)
        seen = watched_until(watcher, 5)
    daemon.kill()
    daemon.start()
    with Pack(daemon.socket) as writer:
        for number in range(6, 11):
            writer.reply("put", key="w", value=number)
    with encoding(daemon.socket) as watcher:
        watcher.reply("watch", prefix="w", start_revision=seen[-1]["revision"] + 1, epoch=epoch)
        seen += watched_until(watcher, 10)
    assert [event["revision"] for event in seen] == list(range(1, 11))
    assert [event["changes"][0]["value"] for event in seen] == list(range(1, 11))


def test_a_client_that_remembers_more_than_there_is_is_told_that_writes_are_missing(shared_daemon):
    with Pack(shared_daemon.socket) as peer:
        here = peer.reply("hello")
        assert peer.reply("hello", epoch=here["epoch"], seen_revision=here["revision"])
        assert peer.code("hello", epoch=here["epoch"], seen_revision=here["revision"] + 1) == "damaged"


def test_a_client_of_another_epoch_is_told_which_one_this_is(shared_daemon):
    with Pack(shared_daemon.socket) as peer:
        here = peer.reply("hello")
        for seen in (0, 2**40):
            peer.post("hello", epoch="another", seen_revision=seen)
            refused = peer.next()
            assert (refused.code, refused.body["data"]) == ("epoch_changed", {"epoch": here["epoch"]})
        assert peer.reply("hello", project="/src/.git")["epoch"] == here["epoch"], "the connection lives"
        assert peer.code("hello", project="a\nb") == "invalid_params"


# -- beyond the log window -------------------------------------------------------------------------------------------

WINDOW = 50


@pytest.fixture(scope="module")
def trimmed():
    """A daemon whose log holds 50 revisions, after 700; every tenth of them deletes."""
    with serving(log_window_revisions=WINDOW) as daemon:
        with Pack(daemon.socket) as peer:
            for number in range(1, 701):
                if number % 10 == 0:
                    peer.post("delete", key=f"k{number % 7}")
                else:
                    peer.post("put", key=f"k{number % 7}", value=number)
                peer.next()
            last = peer.reply("put", key="hot", value=0)["revision"]
            for number in range(1, 120):
                last = peer.reply("put", key="hot", value=number)["revision"]

            def is_trimmed() -> bool:
                # Upkeep comes every 256 batches: conflicts count too, and leave the log alone.
                for _ in range(256):
                    peer.post("put", key="hot", value=0, expect_revision=2**40)
                peer.take(256)
                return bool(peer.reply("status")["compact_revision"] >= last - WINDOW)

            eventually(is_trimmed, "the log is trimmed to its window")
        yield daemon


@BOTH
def test_below_the_window_reads_and_watches_say_compacted_with_the_oldest_revision(trimmed, encoding):
    with encoding(trimmed.socket) as peer:
        oldest = peer.reply("status")["compact_revision"]
        assert oldest > 1
        for method, params in (
            ("get", {"key": "hot", "at_revision": oldest - 1}),
            ("range", {"at_revision": oldest - 1}),
            ("range", {"at_revision": 1}),
            ("watch", {"start_revision": oldest - 1}),
            ("watch", {"start_revision": 1}),
        ):
            found = peer.call(method, **params)
            assert found.code == "compacted", (method, found)
            assert found.body["data"]["compact_revision"] == oldest
        assert peer.reply("watch", start_revision=oldest)
        first = peer.next()
        assert first.body["revision"] == oldest


def test_at_and_above_the_window_s_end_reads_are_exact(trimmed):
    with Pack(trimmed.socket) as peer:
        status = peer.reply("status")
        oldest, newest = status["compact_revision"], status["revision"]
        state = {entry["key"]: entry for entry in peer.reply("range", at_revision=oldest)["entries"]}
        peer.reply("watch", start_revision=oldest + 1)
        for event in watched_until(peer, newest):
            for change in event["changes"]:
                if change["kind"] == "put":
                    state[change["key"]] = change
                else:
                    del state[change["key"]]
            shown = peer.reply("range", at_revision=event["revision"])["entries"]
            assert {entry["key"]: (entry["mod_revision"], entry["value"]) for entry in shown} == {
                key: (entry["mod_revision"], entry["value"]) for key, entry in state.items()
            }


def test_history_keeps_fifty_versions_of_each_entry_whatever_the_window(trimmed):
    with Pack(trimmed.socket) as peer:
        hot = peer.reply("history", key="hot")
        assert [version["value"] for version in hot["versions"]] == list(range(119, 69, -1))
        assert not hot["more"]
        quiet = peer.reply("history", key="k1")["versions"]
        assert len(quiet) == 50
        assert quiet[0]["mod_revision"] < peer.reply("status")["compact_revision"], "older than the window"
        assert [version["mod_revision"] for version in quiet] == sorted(
            (version["mod_revision"] for version in quiet), reverse=True
        )
        paged, before = [], 0
        while True:
            page = peer.reply("history", key="hot", limit=7, before_revision=before)
            paged += page["versions"]
            if not page["more"]:
                break
            before = paged[-1]["mod_revision"]
        assert paged == hot["versions"]


@BOTH
def test_a_watch_that_the_window_passes_ends_with_compacted_and_never_with_a_gap(encoding):
    with serving(log_window_revisions=WINDOW) as daemon, encoding(daemon.socket) as slow, Pack(daemon.socket) as writer:
        slow.reply("watch", start_revision=1)
        value = "x" * 3_000
        for start in range(0, 4_000, 200):
            numbers = range(start, start + 200)
            writer.send(b"".join(Pack.encode(1, "put", {"key": f"k{n % 9}", "value": [n, value]}) for n in numbers))
            writer.take(200)
        expected = 1
        while True:
            event = slow.next().body
            if event["kind"] == "end":
                break
            assert event["kind"] == "changes"
            assert event["revision"] == expected, "each revision, in order"
            expected += 1
        assert event["code"] == "compacted"
        assert event["revision"] == expected - 1
        assert event["data"]["resume_revision"] == expected
        assert event["data"]["compact_revision"] > expected
        assert slow.reply("watch", key="k1"), "and the connection lives on"


def test_an_idle_watch_hears_of_progress_before_the_window_passes_it():
    with serving(log_window_revisions=2_000) as daemon, Pack(daemon.socket) as idle, Pack(daemon.socket) as writer:
        idle.reply("watch", key="never", start_revision=1)
        for start in range(0, 6_000, 250):
            numbers = range(start, start + 250)
            writer.send(b"".join(Pack.encode(1, "put", {"key": "busy", "value": n}) for n in numbers))
            writer.take(250)
        heard = idle.next().body
        assert heard["kind"] == "progress"
        while (more := idle.poll(0.2)) is not None:
            assert more.body["kind"] == "progress"
            assert more.body["revision"] > heard["revision"]
            heard = more.body
        oldest = writer.reply("status")["compact_revision"]
        assert heard["revision"] + 1 >= oldest, "where it stands can still be resumed from"


# -- pages -----------------------------------------------------------------------------------------------------------


@BOTH
def test_pages_at_one_revision_show_one_state_while_others_write(daemon, encoding):
    with encoding(daemon.socket) as reader, Pack(daemon.socket) as writer:
        for start in range(0, 1_500, 125):
            then = [{"op": "put", "key": f"{number:05}", "value": 0} for number in range(start, start + 125)]
            writer.reply("txn", then=then)
        first = reader.reply("range", limit=400)
        entries, revision, round_ = first["entries"], first["read_revision"], 0
        more = first["more"]
        while more:
            round_ += 1
            writer.reply("delete", key=f"{1_500 - round_:05}")
            writer.reply("put", key=f"{round_:05}x", value="new")
            writer.reply("put", key=f"{700 + round_:05}", value="changed")
            page = reader.reply("range", limit=400, after=entries[-1]["key"], at_revision=revision)
            assert page["read_revision"] == revision
            entries += page["entries"]
            more = page["more"]
        assert [entry["key"] for entry in entries] == [f"{number:05}" for number in range(1_500)]
        assert {entry["value"] for entry in entries} == {0}


@BOTH
def test_a_page_is_cut_by_bytes_and_says_that_more_follows(shared_daemon, encoding):
    prefix = f"cut/{encoding.encoding}/"
    with encoding(shared_daemon.socket) as peer:
        for number in range(6):
            peer.reply("put", key=f"{prefix}{number}", value="x" * 250_000)
        keys, after = [], ""
        while True:
            page = peer.reply("range", prefix=prefix, after=after)
            assert 1 <= len(page["entries"]) <= 3
            keys += [entry["key"] for entry in page["entries"]]
            if not page["more"]:
                break
            after = keys[-1]
        assert keys == [f"{prefix}{number}" for number in range(6)]
        only_keys = peer.reply("range", prefix=prefix, keys_only=True)
        assert [entry["value"] for entry in only_keys["entries"]] == [None] * 6
        assert not only_keys["more"]


# -- the live-data limits --------------------------------------------------------------------------------------------


def test_a_store_that_is_full_of_entries_takes_changes_and_deletes_but_nothing_new():
    with serving(live_entries_max=3) as daemon, Pack(daemon.socket) as peer:
        for key in "abc":
            peer.reply("put", key=key, value=1)
        assert peer.code("put", key="d", value=1) == "store_full"
        assert peer.code("merge", key="d", patch={}) == "store_full"
        assert peer.code("txn", then=[{"op": "put", "key": "d", "value": 1}]) == "store_full"
        assert peer.reply("put", key="a", value=2)
        assert peer.reply("merge", key="b", patch={"x": 1})
        failing = [{"kind": "entry", "key": "a", "value": 999}]
        otherwise = [{"op": "put", "key": f"e{number}", "value": 1} for number in range(5)]
        assert peer.code("txn", compares=failing, **{"else": otherwise}) == "store_full"
        many = [{"op": "put", "key": f"f{number}", "value": 1} for number in range(5)]
        assert peer.code("txn", then=many) == "store_full"
        assert peer.reply("delete", key="a")["written"]
        assert peer.reply("put", key="d", value=1)
        assert peer.code("put", key="e", value=1) == "store_full"
        assert peer.reply("status")["entries"] == 3


def test_a_store_that_is_full_of_bytes_takes_deletes_and_no_more_than_its_limit():
    limit = 1_000_000
    with serving(live_bytes_max=limit) as daemon, Pack(daemon.socket) as peer:
        peer.send(b"".join(Pack.encode(n, "put", {"key": f"k{n}", "value": "x" * 50_000}) for n in range(1, 101)))
        answers = peer.take(100)
        assert {answer.code or answer.kind for answer in answers} == {"reply", "store_full"}
        assert peer.reply("status")["live_bytes"] <= limit + 256 * 1024, "writes in flight count, too"
        assert peer.code("put", key="one more", value="x" * 50_000) == "store_full"
        for number in range(1, 101):
            peer.reply("delete", key=f"k{number}")
        assert peer.reply("put", key="one more", value=1)


def test_a_database_that_is_full_takes_deletes_and_says_what_to_do(home):
    limit = 24 << 20
    configure(home, database_bytes_max=limit)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        for number in range(200):
            found = peer.call("put", key=f"k{number % 4}", value="x" * 250_000)
            if found.kind == "error":
                break
        assert found.code == "store_full"
        assert "log_window" in found.body["message"]
        full = peer.reply("status")
        assert limit <= full["database_bytes"] < limit + (24 << 20), "what one look at it may miss"
        assert full["counters"]["limit.database_bytes"] == 1
        assert peer.reply("delete", key="k1")["written"]
        assert peer.reply("get", key="k2")["entry"]
    configure(home, database_bytes_max=limit, log_window_revisions=5)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:

        def written() -> bool:
            return peer.call("put", key="k0", value=1).kind == "reply"

        eventually(written, "a smaller log window makes room")


def test_a_repeat_is_answered_whatever_the_limits_have_become(home):
    """The first attempt was committed; to refuse its repeat would say that it had no effect."""
    sent = {"key": "k" * 300, "value": "x" * 5_000, "request_id": "r1"}
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        first = peer.reply("put", **sent)["written"]
        merged = peer.reply("merge", key="m" * 300, patch={"x": "y" * 5_000}, request_id="r2")["written"]
        peer.reply("delete", key="k" * 300, request_id="r3")
    configure(home, value_bytes_max=1_000, key_bytes_max=100)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert peer.code("put", key="k" * 300, value="x" * 5_000) == "too_large"
        assert peer.code("put", **{**sent, "request_id": "r9"}) == "too_large"
        again = peer.reply("put", **sent)
        assert (again["repeated"], again["written"]) == (True, first)
        again = peer.reply("merge", key="m" * 300, patch={"x": "y" * 5_000}, request_id="r2")
        assert (again["repeated"], again["written"]) == (True, merged)
        assert peer.reply("delete", key="k" * 300, request_id="r3")["repeated"]
        assert peer.code("put", key="other", value=1, request_id="r1") == "request_id_reused"


def test_a_session_owns_no_more_ephemeral_entries_than_its_last_batch_can_end(daemon):
    def put(number: int) -> dict[str, Any]:
        return {"op": "put", "key": f"k{number}", "value": number, "ephemeral": True}

    with Pack(daemon.socket) as peer, Pack(daemon.socket) as watcher:
        peer.reply("session.register", id="s")
        assert peer.code("txn", then=[put(number) for number in range(101)]) == "overloaded"
        assert peer.reply("txn", then=[put(number) for number in range(60)])
        assert peer.code("txn", then=[put(number) for number in range(55, 101)]) == "overloaded"
        assert peer.reply("txn", then=[put(number) for number in range(55, 100)])
        assert peer.code("put", key="k100", value=1, ephemeral=True) == "overloaded"
        assert peer.reply("put", key="k99", value="anew", ephemeral=True)
        assert peer.reply("put", key="k100", value="detached")
        ended = peer.reply("session.close", session="s")["revision"]
        watcher.reply("watch", prefix="k", start_revision=ended)
        (event,) = watched_until(watcher, ended)
        assert [change["kind"] for change in event["changes"]] == ["expire"] * 100


@pytest.mark.parametrize(
    ("limits", "size"),
    [({"log_window_revisions": 300}, 10), ({"log_window_bytes": 4 << 20}, 50_000)],
    ids=["of revisions", "of bytes"],
)
def test_an_idle_watch_is_told_how_far_it_has_come_before_the_log_window_passes_it(home, limits, size):
    """So that it can resume after a crash: what it last heard of must still be there."""
    configure(home, **limits)
    with Daemon(home) as daemon, Pack(daemon.socket) as watcher, Pack(daemon.socket) as writer:
        watcher.reply("watch", prefix="quiet/")
        heard = watcher.next().body["revision"]
        for turn in range(12):
            for number in range(100):
                writer.reply("put", key=f"k{number % 7}", value=f"{turn} {number} " + "x" * size)
            compact_revision = writer.reply("status")["compact_revision"]
            while event := watcher.poll(0.1):
                assert event.body["kind"] == "progress"
                heard = event.body["revision"]
            assert compact_revision <= heard + 1
        assert compact_revision > 100, "the window has moved"
        epoch = writer.reply("hello")["epoch"]
        daemon.kill()
        daemon.start()
        with Pack(daemon.socket) as again, Pack(daemon.socket) as other:
            again.reply("watch", prefix="quiet/", start_revision=heard + 1, epoch=epoch)
            other.reply("put", key="quiet/1", value=1)
            while (event := again.next().body)["kind"] == "progress":
                pass
            assert event["kind"] == "changes"


def test_a_batch_that_grows_six_fold_in_json_reaches_a_json_watcher_whole(daemon):
    """Legal values of control characters: 720 kB of MessagePack, 4.3 MB of JSON."""
    with Json(daemon.socket) as watcher, Pack(daemon.socket) as writer:
        watcher.reply("watch", prefix="large/")
        assert watcher.next().body["kind"] == "snapshot_end"
        value = "\x01" * 240_000
        writes = [{"op": "put", "key": f"large/{number}", "value": value} for number in range(3)]
        written = writer.reply("txn", then=writes)["txn_revision"]
        event = watcher.next().body
        assert event["revision"] == written
        assert [change["value"] for change in event["changes"]] == [value] * 3
        listed: list[str] = []
        while page := watcher.reply("range", prefix="large/", after=listed[-1] if listed else "")["entries"]:
            listed += [entry["key"] for entry in page]
        assert listed == ["large/0", "large/1", "large/2"]


def test_a_page_of_the_past_passes_over_any_number_of_deleted_keys(daemon):
    with Pack(daemon.socket) as peer:
        for start in range(0, 1_280, 128):
            numbers = range(start, start + 128)
            peer.reply("txn", then=[{"op": "put", "key": f"gone/{number:05}", "value": 1} for number in numbers])
            peer.reply("txn", then=[{"op": "delete", "key": f"gone/{number:05}"} for number in numbers])
        peer.reply("put", key="gone/x", value=1)
        at = peer.reply("put", key="gone/y", value=2)["revision"]
        peer.reply("delete", key="gone/x")
        page = peer.reply("range", prefix="gone/", limit=1, at_revision=at)
        assert ([entry["key"] for entry in page["entries"]], page["more"]) == (["gone/x"], True)
        page = peer.reply("range", prefix="gone/", after="gone/x", limit=1, at_revision=at)
        assert ([entry["key"] for entry in page["entries"]], page["more"]) == (["gone/y"], False)


def test_what_peers_may_send_does_not_bound_what_they_are_sent(home):
    configure(home, frame_bytes_max=16_384)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        for number in range(100):
            peer.reply("put", key=f"k{number:02}", value="x" * 1_000)
        assert len(peer.reply("range")["entries"]) == 100
        peer.reply("watch", prefix="k")
        seen: list[str] = []
        while (event := peer.next().body)["kind"] == "snapshot":
            seen += [entry["key"] for entry in event["entries"]]
        assert (len(seen), event["kind"]) == (100, "snapshot_end")


def test_lowered_limits_are_told_by_hello(home):
    configure(home, key_bytes_max=99, watches_max=2, frame_finish_s=1.5)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        limits = peer.reply("hello")["limits"]
        assert (limits["key_bytes_max"], limits["watches_max"], limits["frame_finish_s"]) == (99, 2, 1.5)
        peer.reply("watch", key="a", start_revision=1)
        peer.reply("watch", key="b", start_revision=1)
        assert peer.code("watch", key="c") == "overloaded"


# -- both encodings say the same -------------------------------------------------------------------------------------


def test_watchers_of_both_encodings_get_the_same_events(daemon):
    with Json(daemon.socket) as one, Pack(daemon.socket) as two, Pack(daemon.socket) as writer:
        for peer in (one, two):
            peer.reply("watch")
        values: list[Any] = [
            None,
            True,
            -(2**63),
            2**63 - 1,
            1.5,
            -0.0,
            5e-324,
            "",
            "\u0000\u2028é😀",
            [],
            {},
            [[{"": [None]}]],
        ]
        for number, value in enumerate(values):
            writer.reply("put", key=f"k{number}", value=value)
        writer.reply("txn", then=[{"op": "delete", "key": "k0"}, {"op": "put", "key": "k1", "value": 1, "ttl_s": 0.05}])
        last = len(values) + 2
        first, second = watched_until(one, last), watched_until(two, last)
        assert first == second
        shown = [event["changes"][0]["value"] for event in first[1 : len(values) + 1]]
        assert [(type(value), value) for value in shown] == [(type(value), value) for value in values]
        assert one.reply("range") == two.reply("range")
        assert one.reply("history", key="k1") == two.reply("history", key="k1")
