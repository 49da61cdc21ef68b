"""The stores of schema 1 open for ever, and show what they held; see make_state_v1.py for how they came about."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from cosession.errors import CosessionError
from cosession.messages import REQUESTS
from cosession.messages.store import Get, Put
from data import state_v1
from durability.link import Link, open_when_ready
from durability.loop import ScriptedDaemon
from harness import Daemon

DAY_MS = 24 * 3600 * 1000
SCRIPT = str(Path(state_v1.__file__).with_name("elsewhere.py"))


@pytest.fixture(params=state_v1.VARIANTS)
def variant(request):
    return request.param


@pytest.fixture
def expected(variant):
    return state_v1.load(variant)


@pytest.fixture
def copied(home, variant):
    """A home whose state directory is a copy; the files in the repository are as they were when the test is over."""
    state_v1.copy_store(state_v1.PLACE / variant, home / "state")
    yield home
    assert state_v1.digests(state_v1.PLACE / variant) == state_v1.load(variant).files


@pytest.fixture
def opened(copied):
    with Daemon(copied) as daemon:
        yield daemon


def at(home, wall_ms):
    """A daemon over the copy at another time."""
    return ScriptedDaemon(home, command=[sys.executable, SCRIPT, str(wall_ms)])


def repeat(link: Link, request: state_v1.Request, **changed: object):
    params = msgspec.msgpack.encode({**request.params, **changed})
    return link.call(msgspec.msgpack.decode(params, type=REQUESTS[request.method]))


def test_the_files_in_the_repository_are_those_that_were_made(variant, expected):
    place = state_v1.PLACE / variant
    assert state_v1.digests(place) == expected.files
    assert ("store.db-wal" in expected.files) == (variant == "killed")
    recorded = (expected.epoch, expected.revision, expected.chain_hash, expected.state_hash)
    assert state_v1.recorded(place) == recorded


def test_a_store_of_schema_1_opens_in_its_epoch_with_every_revision(opened, expected, variant):
    with open_when_ready(opened.socket) as link:
        hello = link.hello(epoch=expected.epoch, seen_revision=expected.revision)
    assert hello.epoch == expected.epoch
    assert hello.revision >= expected.revision
    if variant == "clean":
        assert hello.revision == expected.revision


def test_its_entries_are_what_they_were(opened, expected):
    with open_when_ready(opened.socket) as link:
        assert state_v1.listed(link, expected.revision) == expected.entries


def test_its_histories_are_what_they_were(opened, expected):
    with open_when_ready(opened.socket) as link:
        found = state_v1.histories(link, expected.revision, expected.log)
    assert found == expected.histories
    assert {version.kind for kept in found for version in kept.versions} == {"put", "delete", "expire"}


def test_its_log_is_delivered_to_a_watch_from_the_first_revision(opened, expected):
    assert state_v1.logged(opened.socket, expected.revision, like=expected.log) == expected.log


@pytest.mark.parametrize("variant", ["clean"])  # opening the other one is a write: a session died with its machine
def test_a_store_that_was_opened_and_stopped_without_a_write_has_the_same_hashes(copied, expected):
    with Daemon(copied) as daemon:
        assert daemon.stop() == 0
        recorded = (expected.epoch, expected.revision, expected.chain_hash, expected.state_hash)
        assert state_v1.recorded(copied / "state") == recorded
        daemon.start()


@pytest.mark.parametrize("variant", ["killed"])
def test_the_session_that_was_alive_is_found_crashed_and_its_ephemeral_entry_goes(opened):
    with open_when_ready(opened.socket) as link:
        link.call(Put(key="settled", value=msgspec.Raw(b"\x01")))  # behind what the start has submitted
        record = link.call(Get(space="$sessions", key=state_v1.ORPHAN)).entry
        assert record is not None
        assert record.value["state"] == "crashed"
        assert link.call(Get(key=state_v1.ORPHANED_KEY)).entry is None


def test_it_is_written_to_like_any_other(opened, expected):
    with open_when_ready(opened.socket) as link:
        written = link.call(Put(key="new", value=msgspec.Raw(b"\x01"))).written
        assert written.mod_revision > expected.revision
        again = link.call(Put(key="history/long", value=msgspec.Raw(b"\x02"))).written
        assert again.version == 61


def test_a_request_id_of_the_same_day_is_answered_as_repeated(copied, expected):
    with at(copied, expected.wall_ms + 1000) as daemon, open_when_ready(daemon.socket) as link:
        for request in expected.requests:
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
