"""The fuzzers in short, and that each sees what it is for: a daemon, and a decoder, with each of the seeded bugs."""

from __future__ import annotations

import random
import re
import sys

import pytest

from cosession import values
from cosession.wire import JsonCodec, MsgpackCodec
from durability.loop import ScriptedDaemon
from fuzz import corpus, decoder, live, sabotage
from fuzz.guided import Guided
from fuzz.live import Fuzz
from fuzz.mutate import Mutator
from server.daemons import MIB, configure

#: What is said of a daemon with the seeded bug, and how many connections it takes at most until it is.
SEEN = {
    "crash": "the daemon|no connection|a bystander",
    "leak": "memory has grown",
    "bug": "it answered .*internal",
    "stall": "a bystander|nothing is read",
    "babble": "it sent what is no answer",
}
CONNECTIONS = 3_000


@pytest.fixture
def fuzzed(home):
    """A daemon under fire, with the bug of a name."""
    running = []

    def fuzz(bug: str) -> Fuzz:
        configure(home, **live.LIMITS)
        daemon = ScriptedDaemon(home, command=[sys.executable, sabotage.__file__, bug])
        running.append(daemon)
        return Fuzz(daemon.start(), seed=1)

    yield fuzz
    for daemon in running:
        if daemon.running:
            daemon.kill()


@pytest.mark.timeout(300)
def test_a_live_daemon_answers_or_cuts_whatever_it_is_sent_and_serves_a_bystander(fuzzed):
    fuzz = fuzzed("none")
    while fuzz.frames < 3_000 and not fuzz.wrong:
        fuzz.one()
    fuzz.end()
    assert fuzz.wrong == []
    assert fuzz.bystander.served > 0
    assert fuzz.connections < 3_000, "most frames are answered"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", SEEN)
def test_the_fuzzer_catches_a_daemon_with_the_seeded(bug, fuzzed, monkeypatch):
    monkeypatch.setattr(live, "WARM_FRAMES", 300 if bug == "leak" else live.WARM_FRAMES)
    monkeypatch.setattr(live, "SERVED_S", 1.5 if bug == "stall" else live.SERVED_S)
    fuzz = fuzzed(bug)
    while not fuzz.wrong and fuzz.connections < CONNECTIONS:
        fuzz.one()
        fuzz.wrong += fuzz.bystander.wrong
    fuzz.bystander.stop()
    assert fuzz.wrong, f"{bug} was not seen in {fuzz.connections} connections"
    assert re.search(SEEN[bug], fuzz.wrong[0])


def test_every_seeded_bug_of_the_daemon_is_tried():
    assert set(SEEN) == set(sabotage.SABOTAGES) - {"none"}
    assert live.GROWN_MAX == 32 * MIB


def test_the_same_seed_sends_the_same_bytes_and_asks_no_daemon_to_stop():
    first, second = (Mutator(5, corpus.trees(), corpus.conversations()) for _ in range(2))
    for encoding in ("json", "msgpack") * 100:
        sent = first.connection(encoding)
        assert sent == second.connection(encoding)
        assert b"admin.stop" not in sent.data


# -- the decoder -----------------------------------------------------------------------------------------------------


def fuzz_decoder(inputs: int, seed: int = 1) -> Guided:
    guided = Guided(decoder.target, files=decoder.FILES, corpus=decoder.beginnings(), mutate=decoder.mutated, seed=seed)
    for _ in range(inputs):
        guided.one()
    return guided


def test_decoder_refuses_or_reads_whatever_bytes_come_and_gets_further_than_it_began():
    guided = fuzz_decoder(300)
    assert guided.inputs > 300
    assert len(guided.lines) > 150
    assert len(guided.corpus) > len(set(decoder.beginnings()))


def lose_a_piece(monkeypatch):
    split = JsonCodec.split

    def split_badly(self, buffer, frame_bytes_max):
        if 0 < len(buffer) < 20 and b"\n" not in buffer:
            buffer.clear()
        return split(self, buffer, frame_bytes_max)

    monkeypatch.setattr(JsonCodec, "split", split_badly)


def foresee_no_extension(monkeypatch):
    decode = MsgpackCodec.decode_call

    def decode_blindly(self, frame):
        if b"\xc7" in frame:
            raise KeyError("ext")
        return decode(self, frame)

    monkeypatch.setattr(MsgpackCodec, "decode_call", decode_blindly)


def admit_something_else(monkeypatch):
    admit = values.admit
    monkeypatch.setattr(values, "admit", lambda raw, **given: admit(raw, **given).replace(b"\x01", b"\x02"))


@pytest.mark.parametrize("bug", [lose_a_piece, foresee_no_extension, admit_something_else])
def test_the_decoder_fuzz_catches_the_seeded(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        fuzz_decoder(5_000)


def secret(data: bytes) -> None:
    """Five bytes to be guessed, one after another."""
    for index, byte in enumerate(b"cover"):
        if data[index] != byte:
            return
    raise LookupError("found")


@pytest.mark.parametrize("guided", [True, False])
def test_guidance_leads_where_chance_alone_does_not(guided):
    def change(rng: random.Random, data: bytes) -> bytes:
        found = bytearray(data.ljust(5))
        found[rng.randrange(5)] = rng.randrange(97, 123)
        return bytes(found)

    fuzz = Guided(secret, files=[__file__], corpus=[b"....."], mutate=change, seed=1, guided=guided)

    def many() -> bool:
        for _ in range(15_000):
            try:
                fuzz.one()
            except LookupError:
                return True
        return False

    assert many() == guided
