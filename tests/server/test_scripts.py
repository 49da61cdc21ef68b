"""The protocol scripts, each in its encodings: without sockets, in pieces of any size, and against a real daemon."""

from __future__ import annotations

import contextlib
import os
import re

import pytest
from msgspec import structs

from cosession.messages.limits import LIMITS
from harness import Daemon
from rawclient import Answer, Ended, Peer
from server.daemons import configure
from server.inprocess import Inside
from server.scripting import SCRIPTS, Script, read, run

#: Read when the tests are collected: afterwards the environment is cleaned.
REWRITE = os.environ.get("REWRITE") == "1"
QUIET_S = 0.4
#: The words in which an engine refuses are its own; this is not the engine of the daemon.
REFUSALS = re.compile(r"(?<=too_large: ).*|(?<=request_id_reused: ).*")
NOTHING = re.compile(r"(?!)")

ALL = [read(path) for path in sorted(SCRIPTS.glob("*.txt"))]
CASES = [pytest.param(script, each, id=f"{script.name}-{each}") for script in ALL for each in script.encodings]
#: Whole, byte by byte, or in pieces that no frame ends with.
PIECES = [
    pytest.param(script, encoding, size, id=f"{script.name}-{encoding}-{size}")
    for script in ALL
    for encoding in script.encodings
    for size in (1 << 20, 4093 if script.is_large else 1)
]


class Socket:
    """A `Channel` to a real daemon."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def send(self, data: bytes) -> None:
        """See `Channel`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed meanwhile, which `collect` shows
            self.peer.send(data)

    def half_close(self) -> None:
        """See `Channel`."""
        self.peer.half_close()

    def collect(self, count: int | None, *, to_end: bool) -> tuple[list[Answer], bool]:
        """See `Channel`."""
        answers: list[Answer] = []
        try:
            while to_end or count is None or len(answers) < count:
                found = self.peer.poll(QUIET_S) if count is None else self.peer.next()
                if found is None:
                    break
                answers.append(found)
        except Ended:
            self.peer.close()
            return answers, True
        return answers, False


def differences(script: Script, transcripts: list[list[str]], ignored: re.Pattern[str] = NOTHING) -> str:
    """Each block that was answered differently, as a text to read."""
    wrong = []
    for block, lines in zip(script.blocks, transcripts, strict=True):
        if [ignored.sub("", line) for line in lines] != [ignored.sub("", line) for line in block.expected]:
            wrong.append("\n".join(["", *block.given, "--- expected", *block.expected, "--- answered", *lines]))
    return "\n".join(wrong)


@pytest.mark.parametrize(("script", "encoding", "piece_bytes"), PIECES)
def test_a_script_has_its_transcript_without_sockets(script, encoding, piece_bytes):
    inside = Inside(structs.replace(LIMITS, **script.limits))

    def connect(_encoding):
        return inside.connect(piece_bytes=piece_bytes)

    transcripts = run(script, encoding, connect, rewrite=False)
    assert not inside.bugs
    assert not (wrong := differences(script, transcripts, REFUSALS)), wrong


@pytest.mark.parametrize(("script", "encoding"), CASES)
def test_a_script_has_its_transcript_on_a_daemon(script, encoding, home):
    configure(home, **script.limits)
    peers = []

    def connect(_encoding):
        peers.append(Peer(daemon.socket))
        return Socket(peers[-1])

    with Daemon(home) as daemon:
        try:
            transcripts = run(script, encoding, connect, rewrite=REWRITE)
        finally:
            for peer in peers:
                peer.close()
    if REWRITE:
        (SCRIPTS / f"{script.name}.txt").write_text(script.text(transcripts), encoding="utf-8")
    else:
        assert not (wrong := differences(script, transcripts)), wrong
