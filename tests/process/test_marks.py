"""The mark beside the store: written behind commits, never ahead, and held against the store at every start.

What a start cannot see in the store itself (an end that is missing, another generation of the file) it sees by the
mark; a mark that is missing or torn refuses nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cosessiond.process.sidecar import sealed
from cosessiond.store import marks
from cosessiond.store.marking import MARK_AFTER_S
from cosessiond.store.marks import Mark
from cosessiond.store.wal import FRAME_BYTES, HEADER_BYTES, Wal
from harness import POLL_S, STOP_S, Daemon
from process.starting import EXIT_CONFIG, poured, readable, refusal, serves
from rawclient import Pack, Peer


def ten_entries(peer: Peer) -> None:
    for number in range(10):
        peer.reply("put", key=f"k{number}", value=number)


def twenty_entries(peer: Peer) -> None:
    for number in range(20):
        peer.reply("put", key=f"k{number}", value=number)


def marked_twenty_entries(peer: Peer) -> None:
    """Returns when the mark says so."""
    twenty_entries(peer)
    state = Path(peer.reply("status")["state_directory"])
    deadline = time.monotonic() + MARK_AFTER_S + STOP_S
    while not (isinstance(mark := marks.read(state), Mark) and mark.revision == 20):
        assert time.monotonic() < deadline, mark
        time.sleep(POLL_S)


def state_of(home: Path) -> Path:
    return home / "state"


def mark_of(home: Path) -> Mark:
    mark = marks.read(state_of(home))
    assert isinstance(mark, Mark), mark
    return mark


@pytest.fixture
def stopped(home: Path) -> Path:
    poured(home, twenty_entries)
    return home


@pytest.fixture
def killed(home: Path) -> Path:
    """Killed when all it had committed was marked, and lay in the log of SQLite alone."""
    poured(home, marked_twenty_entries, killed=True)
    return home


def test_a_stop_in_order_marks_the_end(stopped: Path) -> None:
    mark = mark_of(stopped)
    with Daemon(stopped) as daemon, Pack(daemon.socket) as peer:
        assert (mark.epoch, mark.revision) == (peer.reply("ping")["epoch"], 20)


def test_a_store_that_stands_still_is_marked_after_a_while_and_served_after_a_kill(killed: Path) -> None:
    assert mark_of(killed).revision == 20
    serves(killed, keys=20)


def exchange(home: Path, *names: str, write: Callable[[Peer], None] = ten_entries, killed: bool = False) -> None:
    """Put files of another store in place of these."""
    other = home / "other"
    other.mkdir(mode=0o700)
    poured(other, write, killed=killed)
    for name in names:
        shutil.copy(state_of(other) / name, state_of(home) / name)
    shutil.rmtree(other)


def without_its_log(home: Path) -> None:
    (state_of(home) / "store.db-wal").unlink()


def with_one_bit_of_its_log_flipped(home: Path) -> None:
    """In the last transaction, which nothing but the mark proves."""
    path = state_of(home) / "store.db-wal"
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + Wal(path).bytes() - 1] ^= 1
    path.write_bytes(data)


def with_the_database_of_another(home: Path) -> None:
    (state_of(home) / "store.db-wal").unlink()
    exchange(home, "store.db")


LOSSES = [without_its_log, with_one_bit_of_its_log_flipped, with_the_database_of_another]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: str(lose.__name__))
def test_a_store_that_lost_its_end_or_was_exchanged_is_refused(killed: Path, lose: Callable[[Path], None]) -> None:
    lose(killed)
    said = refusal(killed, code=EXIT_CONFIG)
    assert "marked" in said
    assert "cosession doctor" in said
    assert refusal(killed, code=EXIT_CONFIG) == said, "it says the same again"
    (state_of(killed) / "mark").unlink()
    serves(killed)  # the seeded mistake, a start that ignores the mark: nothing else would have noticed


def test_an_older_generation_of_the_same_store_is_refused(stopped: Path) -> None:
    shutil.copy(state_of(stopped) / "store.db", stopped / "older.db")
    with Daemon(stopped) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="newer", value=1)
    shutil.copy(stopped / "older.db", state_of(stopped) / "store.db")
    said = refusal(stopped, code=EXIT_CONFIG)
    assert "it ends at revision 20, 21 was marked: 1 acknowledged revisions are lost" in said


def test_a_twin_of_the_same_length_is_refused(stopped: Path) -> None:
    """Same epoch, same revision, other content: only the chain tells."""
    mark = mark_of(stopped)
    forged = Mark(epoch=mark.epoch, revision=mark.revision, chain_hash="00" * 32)
    (state_of(stopped) / "mark").write_bytes(sealed(forged))
    assert "is not the one that was marked" in refusal(stopped, code=EXIT_CONFIG)


HARMLESS = {
    "removed": None,
    "empty": b"",
    "torn": b'{"epoch": "',
    "no text": b'{"epoch": "\xe5", "revision": 1}',
    "nonsense": bytes(range(256)),
    "another hash": b'{"epoch": "e", "revision": 99, "chain_hash": "", "hash": "00"}',
    "older": "older",
}


@pytest.mark.parametrize("content", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_mark_that_proves_nothing_refuses_nothing_and_is_written_anew(stopped: Path, content: bytes | None) -> None:
    place = state_of(stopped) / "mark"
    mark = mark_of(stopped)
    if content == "older":
        with Daemon(stopped) as daemon, Pack(daemon.socket) as peer:
            content = place.read_bytes()
            peer.reply("put", key="k0", value=0)
    place.unlink() if content is None else place.write_bytes(content)
    serves(stopped, keys=20)
    assert mark_of(stopped).revision in (mark.revision, mark.revision + 1)


def test_a_mark_of_an_epoch_before_is_explained_and_one_of_an_epoch_after_is_not(stopped: Path) -> None:
    place = state_of(stopped) / "mark"
    place.write_bytes(sealed(Mark(epoch="before", revision=3, chain_hash="00" * 32)))
    serves(stopped, keys=20)
    place.write_bytes(sealed(Mark(epoch="after", revision=1 << 20, chain_hash="00" * 32)))
    assert "it is another one" in refusal(stopped, code=EXIT_CONFIG)


def test_a_client_that_remembers_more_is_refused_and_the_next_start_begins_an_epoch_above(stopped: Path) -> None:
    with Daemon(stopped) as daemon:
        with Pack(daemon.socket) as peer:
            epoch = peer.reply("ping")["epoch"]
            answer = peer.call("hello", epoch=epoch, seen_revision=5 << 20)
            assert answer.code == "damaged"
            readable(answer.body["message"])
            assert len(peer.reply("status")["damage"]) == 1
        daemon.restart()
        with Pack(daemon.socket) as peer:
            assert peer.call("hello", epoch=epoch, seen_revision=5 << 20).code == "epoch_changed"
            status = peer.reply("status")
            assert (status["revision"], status["entries"]) == (6 << 20, 20)
            assert "epoch" in status["damage"][0]
            assert peer.reply("hello", epoch=status["epoch"], seen_revision=status["revision"])
    assert mark_of(stopped).claimed_revision == 0


def test_a_frame_in_the_middle_of_the_log_that_was_hit_is_noticed_without_a_mark(killed: Path) -> None:
    """SQLite would drop what follows; that something follows proves that it was whole."""
    (state_of(killed) / "mark").unlink()
    path = state_of(killed) / "store.db-wal"
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + FRAME_BYTES + Wal(path).bytes() // 2] ^= 1
    path.write_bytes(data)
    assert "does not match its checksum" in refusal(killed, code=EXIT_CONFIG)
