"""The stores of every schema open for ever, and show what they held; see make_state.py for how they came about."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from cosession.errors import CosessionError
from cosession.messages import REQUESTS
from cosession.messages.store import Get, Put
from cosessiond.store.migrations import SCHEMA
from data import states
from durability.link import Link, open_when_ready
from durability.loop import ScriptedDaemon
from harness import Daemon, private_home

DAY_MS = 24 * 3600 * 1000
CLEAN, KILLED = ([each for each in states.STORES if each.variant == variant] for variant in states.VARIANTS)
SCRIPT = str(Path(states.__file__).with_name("elsewhere.py"))


def named(store):
    return f"{store.schema}-{store.variant}"


@pytest.fixture(params=states.STORES, ids=named)
def store(request):
    return request.param


@pytest.fixture
def expected(store):
    return store.load()


@pytest.fixture
def copied(home, store):
    """A home whose state directory is a copy; the files in the repository are as they were when the test is over."""
    states.copy_store(store.place, home / "state")
    yield home
    assert states.digests(store.place) == store.load().files


@pytest.fixture
def opened(copied):
    with Daemon(copied) as daemon:
        yield daemon


def at(home, wall_ms):
    """A daemon over the copy at another time."""
    return ScriptedDaemon(home, command=[sys.executable, SCRIPT, str(wall_ms)])


def repeat(link: Link, request: states.Request, **changed: object):
    params = msgspec.msgpack.encode({**request.params, **changed})
    return link.call(msgspec.msgpack.decode(params, type=REQUESTS[request.method]))


def test_the_files_in_the_repository_are_those_that_were_made(store, expected):
    assert states.digests(store.place) == expected.files
    assert ("store.db-wal" in expected.files) == (store.variant == "killed")
    assert states.recorded(store.place) == expected.recorded
    assert states.tables(store.place)[0] == store.schema


def test_there_are_stores_of_every_schema():
    assert {store.schema for store in states.STORES} == set(range(1, SCHEMA + 1))


def test_whatever_its_schema_was_a_store_has_the_same_tables_afterwards(copied):
    with private_home() as home, Daemon(home) as fresh:
        fresh.restart()  # what a stop leaves is in the database
        made = states.tables(home / "state")
    with Daemon(copied) as daemon:
        daemon.restart()
        assert states.tables(copied / "state") == made


def test_a_store_opens_in_its_epoch_with_every_revision(opened, expected, store):
    with open_when_ready(opened.socket) as link:
        hello = link.hello(epoch=expected.epoch, seen_revision=expected.revision)
    assert hello.epoch == expected.epoch
    assert hello.revision >= expected.revision
    if store.variant == "clean":
        assert hello.revision == expected.revision


def test_its_entries_are_what_they_were(opened, expected):
    with open_when_ready(opened.socket) as link:
        assert states.listed(link, expected.revision) == expected.entries


def test_its_histories_are_what_they_were(opened, expected, store):
    with open_when_ready(opened.socket) as link:
        found = states.histories(link, expected.revision, expected.log)
    if store.schema == 1:
        assert any(version.instance for kept in found for version in kept.versions)
    shown, wanted = states.alike(store, found, expected.histories)
    assert shown == wanted
    assert {version.kind for kept in found for version in kept.versions} == {"put", "delete", "expire"}


@pytest.mark.parametrize("store", [each for each in states.STORES if each.schema > 1], ids=named)
def test_what_was_purged_is_shown_as_that_and_its_values_are_nowhere(opened, expected, copied):
    versions = {
        kept.key: [(each.kind, each.purged, each.value) for each in kept.versions] for kept in expected.histories
    }
    gone = ("put", True, None)
    assert versions["purged/all"] == [("delete", False, None), gone, gone, gone]
    assert versions["purged/older"] == [("put", False, "kept"), gone]
    assert all(not each[1] for key, rows in versions.items() if not key.startswith("purged/") for each in rows)
    of = {kept.key: kept.versions for kept in expected.histories}
    with open_when_ready(opened.socket) as link:
        for key in ("purged/all", "purged/older"):
            with pytest.raises(CosessionError) as caught:
                link.call(Get(key=key, at_revision=of[key][-1].mod_revision))
            assert (caught.value.code, caught.value.data["purged_revision"]) == ("compacted", of[key][-1].mod_revision)
    for path in (copied / "state").rglob("*"):  # with the backup that an upgrade begins with
        assert path.is_dir() or b"secret " not in path.read_bytes()


def test_its_audit_is_what_it_was_and_goes_on(opened, expected, store):
    with open_when_ready(opened.socket) as link:
        link.call(Put(key="settled", value=msgspec.Raw(b"\x01")))  # behind what the start has noted
        found = states.audited(link)
    held = len(expected.audit)
    assert found[:held] == expected.audit
    assert [each.id for each in found] == list(range(1, len(found) + 1))
    follows = ["stop", "start"] if store.schema > 1 and store.variant == "clean" else ["start"]
    assert [each.operation for each in found[held:] if each.kind == "admin"] == follows
    assert {each.kind for each in expected.audit} == (set() if store.schema == 1 else {"admin", "denial", "verdict"})


def test_its_log_is_delivered_to_a_watch_from_the_first_revision(opened, expected):
    assert states.logged(opened.socket, expected.revision, like=expected.log) == expected.log


@pytest.mark.parametrize("store", CLEAN, ids=named)  # opening the other one is a write: a session died with its machine
def test_a_store_that_was_opened_and_stopped_without_a_write_has_the_same_hashes(copied, expected):
    with Daemon(copied) as daemon:
        assert daemon.stop() == 0
        assert states.recorded(copied / "state") == expected.recorded
        daemon.start()


@pytest.mark.parametrize("store", KILLED, ids=named)
def test_the_session_that_was_alive_is_found_crashed_and_its_ephemeral_entry_goes(opened):
    with open_when_ready(opened.socket) as link:
        link.call(Put(key="settled", value=msgspec.Raw(b"\x01")))  # behind what the start has submitted
        record = link.call(Get(space="$sessions", key=states.ORPHAN)).entry
        assert record is not None
        assert record.value["state"] == "crashed"
        assert link.call(Get(key=states.ORPHANED_KEY)).entry is None


def test_it_is_written_to_like_any_other(opened, expected):
    with open_when_ready(opened.socket) as link:
        written = link.call(Put(key="new", value=msgspec.Raw(b"\x01"))).written
        assert written.mod_revision > expected.revision
        again = link.call(Put(key="history/long", value=msgspec.Raw(b"\x02"))).written
        assert again.version == 61


def test_a_request_id_of_the_same_day_is_answered_as_repeated(copied, expected):
    with at(copied, expected.wall_ms + 1000) as daemon, open_when_ready(daemon.socket) as link:
        for request in (each for each in expected.requests if each.method != "purge"):  # that goes on, see PROTOCOL.md
            reply = repeat(link, request)
            assert reply.repeated
            written = reply.written if isinstance(reply.written, list) else [reply.written]
            assert {each.mod_revision for each in written} == {request.revision}


def test_a_request_id_with_other_content_is_refused(copied, expected):
    puts = [request for request in expected.requests if request.method == "put"]
    with at(copied, expected.wall_ms + 1000) as daemon, open_when_ready(daemon.socket) as link:
        with pytest.raises(CosessionError) as caught:
            repeat(link, puts[0], key="another")
        assert caught.value.code == "request_id_reused"


def test_a_request_id_of_another_day_is_still_known_while_few_came_after_it(copied, expected):
    """The wall clock may have jumped; see REQUEST_IDS_KEPT_MIN."""
    puts = [request for request in expected.requests if request.method == "put" and "ttl_s" not in request.params]
    with at(copied, expected.wall_ms + DAY_MS + 60_000) as daemon, open_when_ready(daemon.socket) as link:
        link.call(Put(key="new", value=msgspec.Raw(b"\x01")))
        assert repeat(link, puts[0]).repeated
