"""revert, revision_at and purge as a peer meets them: what they do, what they refuse, and what lands in between."""

from __future__ import annotations

import pytest

from cosession.messages.limits import REVERT_ENTRIES_MAX
from harness import Daemon
from rawclient import Json, Pack
from server.daemons import configure
from server.inprocess import Inside


@pytest.fixture
def inside():
    return Inside()


class Asked:
    """One connection to a core without sockets, one call after the other."""

    def __init__(self, inside):
        self.line = inside.connect()

    def call(self, method, **params):
        self.send(method, **params)
        return self.answer()

    def send(self, method, **params):
        self.line.send(Pack.encode(1, method, params))

    def answer(self):
        ((answer,), ended) = self.line.collect(1, to_end=False)
        assert not ended
        return answer

    def reply(self, method, **params):
        found = self.call(method, **params)
        assert found.kind == "reply", found
        return found.body

    def code(self, method, **params):
        found = self.call(method, **params)
        assert found.kind == "error", found
        return found.code

    def values(self, prefix=""):
        return {each["key"]: each["value"] for each in self.reply("range", prefix=prefix)["entries"]}


@pytest.fixture
def asked(inside):
    return Asked(inside)


def changed(reply):
    return [(each["kind"], each["key"]) for each in reply["written"]]


def test_one_entry_goes_back_and_the_history_says_how(asked):
    for value in (1, 2, 3):
        asked.reply("put", key="a", value=value)
    reverted = asked.reply("revert", key="a", to_revision=1)
    assert (changed(reverted), reverted["unchanged"]) == ([("put", "a")], 0)
    versions = asked.reply("history", key="a")["versions"]
    assert [(each["value"], each["operation"]) for each in versions[:2]] == [(1, "revert"), (3, "put")]
    again = asked.reply("revert", key="a", to_revision=1)
    assert (again["written"], again["unchanged"]) == ([], 1)


def test_what_was_absent_is_deleted_and_what_is_gone_comes_back(asked):
    asked.reply("put", key="a", value=1)
    asked.reply("delete", key="a")
    assert changed(asked.reply("revert", key="a", to_revision=1)) == [("put", "a")]
    assert changed(asked.reply("revert", key="a", to_revision=2)) == [("delete", "a")]
    assert asked.values() == {}


def test_a_prefix_goes_back_as_one_batch(asked):
    asked.reply("txn", then=[{"op": "put", "key": f"p/{n}", "value": n} for n in range(5)])
    asked.reply("put", key="q", value=0)
    asked.reply("put", key="p/1", value="new")
    asked.reply("delete", key="p/2")
    asked.reply("put", key="p/9", value="later")
    asked.reply("put", key="q", value=1)
    planned = asked.reply("revert", prefix="p/", to_revision=2, dry_run=True)
    assert asked.values()["p/1"] == "new"
    reverted = asked.reply("revert", prefix="p/", to_revision=2)
    assert changed(planned) == changed(reverted) == [("put", "p/1"), ("put", "p/2"), ("delete", "p/9")]
    assert reverted["unchanged"] == 3
    assert len({each["mod_revision"] for each in reverted["written"]}) == 1
    assert asked.values("p/") == {f"p/{n}": n for n in range(5)}
    assert asked.values("q") == {"q": 1}


def test_a_lease_stays_as_it_is_now(asked):
    asked.reply("put", key="a", value=1, ttl_s=5)
    asked.reply("put", key="a", value=2, ttl_s=900)
    asked.reply("revert", key="a", to_revision=1)
    entry = asked.reply("get", key="a")["entry"]
    assert (entry["value"], entry["ttl_s"]) == (1, 900)


@pytest.mark.parametrize(
    "landing",
    [
        ("put", {"key": "p/same", "value": "theirs"}),
        ("put", {"key": "p/other", "value": "theirs"}),
        ("put", {"key": "p/changed", "value": "theirs"}),
        ("delete", {"key": "p/same"}),
        ("delete", {"key": "p/changed"}),
    ],
    ids=lambda each: f"{each[0]} {each[1]['key']}",
)
def test_what_lands_in_between_is_seen_and_all_is_decided_again(inside, asked, landing):
    """It is queued when the revert looks, and committed before the batch that the revert decides on."""
    asked.reply("txn", then=[{"op": "put", "key": f"p/{key}", "value": 1} for key in ("same", "changed")])
    asked.reply("put", key="p/changed", value=2)
    other = Asked(inside)
    submit, landed = inside.core.store.submit, []

    def between(batch, done):
        if batch.origin.operation == "revert" and not landed:
            landed.append(batch)
            theirs = inside.core.store.batch(inside.core.store.origin("put"), [], [_write(*landing)])
            submit(theirs, landed.append)
        submit(batch, done)

    inside.core.store.submit = between
    asked.reply("revert", prefix="p/", to_revision=1)
    assert len(landed) == 2
    assert other.values("p/") == {"p/same": 1, "p/changed": 1}, "as it was, over what landed"
    key = landing[1]["key"]
    kinds = [(each["kind"], each["value"]) for each in other.reply("history", key=key)["versions"]]
    assert kinds[1] in (("put", "theirs"), ("delete", None)), "and what landed is in the history"


def _write(method, params):
    from cosessiond.store.engine import Delete, Put

    id = ("context", "global", params["key"])
    return Put(id, b"\xa6theirs") if method == "put" else Delete(id)


def test_under_constant_writing_it_gives_up(inside, asked):
    asked.reply("put", key="p/a", value=1)
    asked.reply("put", key="p/a", value=2)
    submit = inside.core.store.submit

    def between(batch, done):
        if batch.origin.operation == "revert":
            theirs = inside.core.store.batch(inside.core.store.origin("put"), [], [_write("put", {"key": "p/a"})])
            submit(theirs, lambda _: None)
        submit(batch, done)

    inside.core.store.submit = between
    assert asked.code("revert", prefix="p/", to_revision=1) == "overloaded"
    assert asked.code("revert", key="p/a", to_revision=1) == "overloaded"
    inside.core.store.submit = submit
    assert asked.reply("put", key="p/b", value=1), "and the connection goes on"


def test_a_repeat_gets_the_first_outcome_whatever_was_written_since(asked):
    asked.reply("put", key="a", value=1)
    asked.reply("put", key="a", value=2)
    first = asked.reply("revert", key="a", to_revision=1, request_id="r")
    asked.reply("put", key="a", value=3)
    again = asked.reply("revert", key="a", to_revision=1, request_id="r")
    assert (again["repeated"], again["written"]) == (True, first["written"])
    assert asked.values() == {"a": 3}
    assert asked.code("revert", key="a", to_revision=2, request_id="r") == "request_id_reused"


def test_an_expectation_that_fails_is_a_conflict(asked):
    asked.reply("put", key="a", value=1)
    asked.reply("put", key="a", value=2)
    refused = asked.call("revert", key="a", to_revision=1, expect_revision=1)
    assert (refused.code, refused.body["data"]["current"]["value"]) == ("conflict", 2)
    assert asked.code("revert", key="a", to_revision=2, expect_revision=1) == "conflict"
    assert changed(asked.reply("revert", key="a", to_revision=1, expect_revision=2)) == [("put", "a")]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"to_revision": 1}, "invalid_params"),
        ({"key": "a", "prefix": "b", "to_revision": 1}, "invalid_params"),
        ({"key": "a", "to_revision": 0}, "invalid_params"),
        ({"key": "a", "to_revision": -1}, "invalid_params"),
        ({"prefix": "", "to_revision": 1, "expect_revision": 1}, "invalid_params"),
        ({"key": "a", "to_revision": 99}, "future_revision"),
        ({"key": "a", "to_revision": 1, "space": "$sessions"}, "not_allowed"),
        ({"prefix": "", "to_revision": 1, "space": "$sessions"}, "not_allowed"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(asked, params, code):
    asked.reply("put", key="a", value=1)
    assert asked.code("revert", **params) == code


def test_more_than_a_batch_takes_is_refused_with_the_count(asked):
    for start in (0, 100):
        asked.reply("txn", then=[{"op": "put", "key": f"p/{n:04d}", "value": n} for n in range(start, start + 100)])
    asked.reply("put", key="q", value=1)
    for start in (0, 100):
        asked.reply("txn", then=[{"op": "put", "key": f"p/{n:04d}", "value": "x"} for n in range(start, start + 100)])
    refused = asked.call("revert", prefix="p/", to_revision=3)
    assert (refused.code, refused.body["data"]["size"]) == ("too_large", 200)
    assert len(asked.reply("revert", prefix="p/00", to_revision=3)["written"]) == 100
    for key in "abcd":
        asked.reply("put", key=f"b/{key}", value="x" * 250_000)
    stood = asked.reply("ping")["revision"]
    for key in "abcd":
        asked.reply("put", key=f"b/{key}", value=0)
    assert asked.code("revert", prefix="b/", to_revision=stood) == "too_large"


def test_more_than_may_be_looked_at_is_refused(asked):
    for start in range(0, REVERT_ENTRIES_MAX + 1, 128):
        asked.reply("txn", then=[{"op": "put", "key": f"p/{n:05d}", "value": n} for n in range(start, start + 128)])
    stands = asked.reply("ping")["revision"]
    refused = asked.call("revert", prefix="", to_revision=stands)
    assert (refused.code, refused.body["data"]["limit"]) == ("too_large", REVERT_ENTRIES_MAX)


@pytest.fixture
def narrow(home):
    """A daemon whose log window has five revisions."""
    configure(home, log_window_revisions=5)
    with Daemon(home) as daemon, Json(daemon.socket) as peer:
        yield peer


def below(peer, writes=600):
    """Write until the window has passed what was there before."""
    for start in range(0, writes, 100):
        for number in range(start, start + 100):
            peer.reply("put", key="other", value=number)
    while not peer.reply("status")["compact_revision"] > 60:
        peer.reply("put", key="other", value=0)


def test_below_the_window_one_entry_goes_back_as_far_as_is_proved(narrow):
    narrow.reply("put", key="few", value="first")
    narrow.reply("put", key="few", value="second")
    for number in range(55):
        narrow.reply("put", key="many", value=number)
    below(narrow)
    assert changed(narrow.reply("revert", key="few", to_revision=1)) == [("put", "few")]
    assert narrow.reply("get", key="few")["entry"]["value"] == "first"
    assert changed(narrow.reply("revert", key="many", to_revision=8)) == [("put", "many")]
    assert narrow.reply("get", key="many")["entry"]["value"] == 5
    gone = narrow.call("revert", key="many", to_revision=4)
    assert gone.code == "compacted"
    assert gone.body["data"]["oldest_revision"] >= 8
    assert narrow.code("revert", key="other", to_revision=3) == "compacted"
    unproved = narrow.call("revert", key="never", to_revision=3)
    assert (unproved.code, unproved.body["data"]["oldest_revision"]) == ("compacted", 0)
    assert narrow.code("revert", prefix="few", to_revision=1) == "compacted"
    assert narrow.code("revision_at", time=1.0) == "compacted"


def test_an_entry_that_was_deleted_below_the_window_is_not_told_from_one_that_never_was(narrow):
    """And nothing is claimed of what was before: an earlier life of a key may have been there."""
    for value in ("first", "second"):
        narrow.reply("put", key="gone", value=value)
        narrow.reply("put", key="again", value=value)
    narrow.reply("delete", key="gone")
    narrow.reply("delete", key="again")
    below(narrow)
    assert narrow.reply("history", key="gone") == {**narrow.reply("history", key="never"), "versions": []}
    assert narrow.call("revert", key="gone", to_revision=2).body["data"]["oldest_revision"] == 0
    born = narrow.reply("put", key="again", value="third")["written"]["mod_revision"]
    assert [each["version"] for each in narrow.reply("history", key="again")["versions"]] == [1]
    below(narrow)
    gone = narrow.call("revert", key="again", to_revision=3)
    assert (gone.code, gone.body["data"]["oldest_revision"]) == ("compacted", born)
    assert narrow.reply("get", key="again")["entry"]["value"] == "third"
    assert narrow.code("get", key="gone", at_revision=2) == "compacted"
    assert narrow.reply("get", key="gone", at_revision=narrow.reply("status")["compact_revision"])["entry"] is None


def test_a_time_finds_its_revision(inside, asked):
    assert asked.code("revision_at", time=inside.world.clock.wall_ms() / 1000) == "compacted"
    times = []
    for number in range(20):
        asked.reply("put", key="a", value=number)
        times.append(asked.reply("get", key="a")["entry"]["time"])
        inside.world.advance(10.0)
    for revision, time in enumerate(times, start=1):
        for after in (0.0, 5.0):
            found = asked.reply("revision_at", time=time + after)
            assert (found["at_revision"], found["time"]) == (revision, time)
    assert asked.reply("revision_at", time=times[-1] + 1e9)["at_revision"] == 20
    assert asked.code("revision_at", time=times[0] - 0.001) == "compacted"
    assert asked.code("revision_at", time=float("inf")) == "invalid_params"
