"""The vectors for clients in other languages: complete, true, and passed by a client that knows only the protocol."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

import vectors
from cosession.errors import CATALOGUE
from cosession.messages import REQUESTS
from harness import Daemon, private_home
from source_tree import ROOT

RUNNER = ROOT / "tests" / "node" / "run_vectors.mjs"
FRAMINGS = ("lines", "frames")
#: Errors that no frame alone can cause, and why.
OUT_OF_REACH = {
    "disk_full": "the disk",
    "read_only": "the disk",
    "claimed": "its answer has the id of a claim, which differs from run to run",
    "internal": "a fault",
    "io_error": "a device",
    "damaged": "the store",
    "unreachable": "client side",
    "unknown_outcome": "client side",
    "already_running": "never sent",
    "config": "a file",
    "closed": "client side",
}


def kept(framing: str) -> dict:
    return json.loads((vectors.VECTORS / f"{framing}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_vectors_are_what_the_daemon_does(framing):
    made = vectors.made(framing, kept(framing))
    assert made == kept(framing), "after a change that is meant: python tests/vectors.py"


def test_every_method_and_every_error_appears():
    called = {call[0] for calls in vectors.CALLS.values() for call in calls}
    assert set(REQUESTS) <= called, f"add to vectors.CALLS: {', '.join(sorted(set(REQUESTS) - called))}"
    for framing in FRAMINGS:
        text = json.dumps(kept(framing))
        # What is no MessagePack is no call: only a line can be cut out of its neighbours and still be no JSON.
        for code in set(CATALOGUE) - set(OUT_OF_REACH) - ({"parse_error"} if framing == "frames" else set()):
            form = (
                f'\\"code\\":\\"{code}\\"'
                if framing == "lines"
                else b"code".hex() + f"{0xA0 + len(code):x}{code.encode().hex()}"
            )
            assert form in text, f"no {code} in {framing}"
        kinds = {"snapshot", "snapshot_end", "changes"}
        for kind in kinds:
            assert (kind if framing == "lines" else kind.encode().hex()) in text


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if not found:
        pytest.skip("node is not installed: the client in another language was not run; do: apt install nodejs")
    return found


def run(node: str, *paths) -> subprocess.CompletedProcess[str]:
    with private_home() as home:
        (home / "config").mkdir(mode=0o700)
        (home / "config" / "config.toml").write_text(vectors.LIMITS)
        with Daemon(home) as daemon:
            done = subprocess.run(
                [node, str(RUNNER), str(daemon.socket), *map(str, paths)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            try:
                daemon.wait(5.0)  # the vectors end with a stop
            except subprocess.TimeoutExpired:  # but for wrong ones
                daemon.stop()
    return done


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_client_in_node_passes(node, framing):
    done = run(node, vectors.VECTORS / f"{framing}.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


#: A mistake each: framing, what stands there, what a wrong vector says.
SEEDED = [
    ("lines", '\\"protocol\\":1', '\\"protocol\\":2'),
    ("lines", '\\"mod_revision\\":2', '\\"mod_revision\\":3'),
    ("lines", '"get",', '"got",'),
    ("lines", '\\"code\\":\\"conflict\\"', '\\"code\\":\\"compacted\\"'),
    ("frames", "a870726f746f636f6c01", "a870726f746f636f6c02"),
    ("frames", "<session_token>", "01"),
    ("frames", b"conflict".hex(), b"conflicT".hex()),
]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_each_wrong_vector_is_noticed(node, tmp_path, framing):
    text = (vectors.VECTORS / f"{framing}.json").read_text(encoding="utf-8")
    seeded = [(right, wrong) for each, right, wrong in SEEDED if each == framing]
    for right, wrong in seeded:
        assert right in text
        text = text.replace(right, wrong, 1)
    (tmp_path / "wrong.json").write_text(text, encoding="utf-8")
    done = run(node, tmp_path / "wrong.json")
    assert done.returncode == 1
    assert done.stdout.count(f"{framing} ") == len(seeded), done.stdout


def test_that_client_has_at_most_60_lines() -> None:
    """Who cannot write one as short would find the protocol too large."""
    lines = RUNNER.with_name("client.mjs").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 170
