"""purge as a peer meets it: what watches, histories, reads and repeats show of what is gone, and what refuses it."""

from __future__ import annotations

import pytest

from cosessiond.audit.records import shown
from cosessiond.store.memory import MemoryEngine
from harness import Daemon
from rawclient import Json, Pack
from server.inprocess import Inside
from server.test_revert import Asked

HIDDEN = "hunter2 and all that"


@pytest.fixture
def asked():
    return Asked(Inside())


def held(home, text):
    """The files under `home` that have these bytes."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


def test_the_entry_is_deleted_and_its_versions_lose_their_values(asked):
    for number in range(3):
        asked.reply("put", key="a", value=f"{HIDDEN} {number}", request_id=f"r{number}")
    purged = asked.reply("purge", key="a")
    assert (purged["written"]["kind"], purged["written"]["mod_revision"]) == ("delete", 4)
    assert (purged["purged"], purged["backups"], purged["repeated"]) == (3, [], False)
    assert asked.reply("get", key="a")["entry"] is None
    versions = asked.reply("history", key="a")["versions"]
    assert [(each["operation"], each["value"], each["purged"]) for each in versions] == [
        ("purge", None, False),
        *[("put", None, True)] * 3,
    ]
    assert [each["request_id"] for each in versions[1:]] == ["r2", "r1", "r0"]
    gone = asked.call("get", key="a", at_revision=2)
    assert (gone.code, gone.body["data"]["purged_revision"]) == ("compacted", 2)
    assert asked.code("range", prefix="", at_revision=2) == "compacted"
    assert asked.code("revert", key="a", to_revision=2) == "compacted"
    assert asked.code("revert", prefix="a", to_revision=2) == "compacted"
    again = asked.reply("put", key="a", value=f"{HIDDEN} 1", request_id="r1")
    assert (again["repeated"], again["written"]["mod_revision"]) == (True, 2)


def test_with_a_bound_the_newer_entry_stays(asked):
    for number in range(4):
        asked.reply("put", key="a", value=number)
    purged = asked.reply("purge", key="a", before_revision=3)
    assert (purged["written"], purged["purged"]) == (None, 2)
    assert asked.reply("get", key="a")["entry"]["value"] == 3
    assert [each["purged"] for each in asked.reply("history", key="a")["versions"]] == [False, False, True, True]
    purged = asked.reply("purge", key="a", before_revision=5)
    assert (purged["written"]["kind"], purged["purged"]) == ("delete", 2)


def test_while_the_database_is_written_anew_the_status_says_so(asked, monkeypatch):
    told = []
    monkeypatch.setattr(MemoryEngine, "erase", lambda _: told.append(asked.line.conversation._core.running) or True)
    asked.reply("put", key="a", value=1)
    asked.reply("purge", key="a")
    assert told == ["purge: the database of 0 MB is written anew; writes wait, reads go on"]
    assert asked.reply("status")["running"] == ""


def test_of_an_absent_entry_the_history_is_purged(asked):
    asked.reply("put", key="a", value=1)
    asked.reply("delete", key="a")
    assert asked.reply("purge", key="a")["purged"] == 1
    assert asked.reply("purge", key="a")["purged"] == 0
    assert asked.reply("purge", key="never")["purged"] == 0


def test_a_repeat_goes_on_and_touches_no_new_life(asked):
    asked.reply("put", key="a", value=1)
    first = asked.reply("purge", key="a", request_id="p")
    asked.reply("put", key="a", value=2)
    again = asked.reply("purge", key="a", request_id="p")
    assert (again["repeated"], again["written"], again["purged"]) == (True, first["written"], 0)
    assert asked.reply("get", key="a")["entry"]["value"] == 2


def recorded(asked):
    """The records of purges, oldest first."""
    records = asked.reply("audit", after=0, kind="admin")["records"]
    return [each for each in records if each["operation"] == "purge"]


def test_the_audit_has_that_it_began_and_how_it_ended_and_no_value(asked):
    asked.reply("put", key="a", value=HIDDEN, project="p")
    asked.reply("purge", key="a", project="p")
    begun, ended = recorded(asked)
    assert (begun["outcome"], ended["outcome"]) == ("begun", "ok")
    for each in (begun, ended):
        assert (each["subject"], each["project"], each["facts"]) == ("a", "p", {"revision": 2})
        assert HIDDEN not in str(each)
    assert asked.code("purge", key="a", before_revision=9, project="p") == "future_revision"
    assert len(recorded(asked)) == 2, "what was refused did nothing"


def test_one_that_fails_says_so_in_the_audit(asked, monkeypatch):
    asked.reply("put", key="a", value=1)
    monkeypatch.setattr(MemoryEngine, "erase", lambda _: False)
    assert asked.code("purge", key="a") == "disk_full"
    assert [each["outcome"] for each in recorded(asked)] == ["begun", "disk_full"]


def test_that_it_began_is_in_the_audit_before_the_first_value_goes(asked, monkeypatch):
    """Or a crash in between would leave no record of who did it."""
    taken_out = MemoryEngine.purge

    def purge(self, *arguments, **named):
        kept = self.audited(after=0, before=0, limit=100, newest_first=False)
        seen.append([shown(each).outcome for each in kept if shown(each).operation == "purge"])
        return taken_out(self, *arguments, **named)

    seen = []
    monkeypatch.setattr(MemoryEngine, "purge", purge)
    asked.reply("put", key="a", value=1)
    asked.reply("delete", key="a")
    asked.reply("purge", key="a")
    assert seen == [["begun"]]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"key": ""}, "invalid_params"),
        ({"key": "a", "before_revision": 3}, "future_revision"),
        ({"key": "a", "before_revision": -1}, "invalid_params"),
        ({"key": "a", "space": "$sessions"}, "not_allowed"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(asked, params, code):
    asked.reply("put", key="a", value=1)
    assert asked.code("purge", **params) == code
    assert asked.reply("purge", key="a", before_revision=2)["purged"] == 1


def test_one_purge_at_a_time(asked):
    asked.reply("put", key="a", value=1)
    asked.line.send(Pack.encode(1, "purge", {"key": "a"}) + Pack.encode(2, "purge", {"key": "b"}))
    answers, _ = asked.line.collect(2, to_end=False)
    assert sorted((each.kind, each.code if each.kind == "error" else "") for each in answers) == [
        ("error", "overloaded"),
        ("reply", ""),
    ]
    assert asked.reply("purge", key="b")["purged"] == 0


def test_who_watches_sees_a_deletion_and_who_comes_later_a_trace(daemon):
    with Pack(daemon.socket) as live, Json(daemon.socket) as peer:
        watch = live.reply("watch", key="a", start_revision=1)["watch"]
        peer.reply("put", key="a", value=HIDDEN)
        peer.reply("purge", key="a")
        seen = [live.next().body["changes"][0] for _ in range(2)]
        assert [(each["kind"], each["value"], each["purged"]) for each in seen] == [
            ("put", HIDDEN, False),
            ("delete", None, False),
        ]
        assert watch
    with Json(daemon.socket) as late:
        late.reply("watch", key="a", start_revision=1)
        seen = [late.next().body["changes"][0] for _ in range(2)]
        assert [(each["kind"], each["value"], each["purged"]) for each in seen] == [
            ("put", None, True),
            ("delete", None, False),
        ]


def test_no_file_of_the_daemon_has_the_value_and_none_brings_it_back(home):
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        for number in range(300):
            peer.reply("put", key="a", value=f"{HIDDEN} {number:04d}" + "x" * (number % 50) * 10)
            peer.reply("put", key=f"b{number % 7}", value="y" * number)
        assert held(home, HIDDEN)
        assert peer.reply("purge", key="a")["purged"] == 300
        assert held(home, HIDDEN) == []
        daemon.kill()
        daemon.start()
        with Pack(daemon.socket) as again:
            assert again.reply("history", key="a")["versions"][1]["purged"]
            assert again.reply("get", key="b1")["entry"]["value"] == "y" * 295
        assert held(home, HIDDEN) == []


def test_a_repeat_knows_itself_when_nothing_stands_and_spares_what_was_deleted_since(asked):
    asked.reply("put", key="a", value=HIDDEN)
    first = asked.reply("purge", key="a", request_id="p1")
    asked.reply("put", key="a", value="another life")
    asked.reply("delete", key="a")
    again = asked.reply("purge", key="a", request_id="p1")
    assert (again["repeated"], again["written"], again["purged"]) == (True, first["written"], 0)
    assert "another life" in [each["value"] for each in asked.reply("history", key="a")["versions"]]
