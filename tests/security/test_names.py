"""Names that would be paths, and text that would move the cursor: in every name, and through every verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import structs

import cosession
from cli.conftest import Cli
from cosession.messages import REQUESTS
from fuzz.corpus import LEFT_OUT, STAND_INS
from harness import Daemon, private_home
from rawclient import Json, Pack

HIDDEN = "what no daemon may tell"


# -- paths -----------------------------------------------------------------------------------------------------------


def texts() -> list[tuple[str, str]]:
    """Every parameter of every method that takes text."""
    return [
        (method, field.encode_name)
        for method, request in sorted(REQUESTS.items())
        if method not in LEFT_OUT
        for field in structs.fields(request)
        if field.type is str
    ]


def tree(place: Path) -> set[str]:
    return {str(path) for path in place.rglob("*")}


def test_a_path_in_any_name_leads_nowhere(home, tmp_path):
    """The names of files of the user's, from the root and relative to every directory of the daemon."""
    victim = tmp_path / "victim"
    victim.write_text(HIDDEN)
    up = "/".join([".."] * 12)
    values = (str(victim), f"{up}{victim}", f"..{victim}\0.db", f"{tmp_path}/new", "../store.db", "~/.ssh")
    with Daemon(home) as daemon:
        with Pack(daemon.socket) as peer:
            peer.reply("put", key="k", value=1)
        before = tree(home) | tree(tmp_path)
        told = []
        for method, name in texts():
            required = {f.encode_name for f in structs.fields(REQUESTS[method]) if f.required}
            params = {each: STAND_INS[each] for each in required if each in STAND_INS}
            for value in values:
                with Pack(daemon.socket) as peer:  # each its own: an answer may be followed by events
                    found = peer.call(method, **{**params, name: value})
                told.append(str(found.body))
        assert len(told) > 200
        assert not [each for each in told if HIDDEN in each]
        after = {path for path in tree(home) | tree(tmp_path) if not re.search(r"/backups/|-wal$", path)}
        assert after <= before, "a name made a file"
        assert victim.read_text() == HIDDEN


# -- the cursor ------------------------------------------------------------------------------------------------------

UNSEEN = "\u200b"
#: Each is a way to act on a terminal, or to show another text than there is.
EVIL = ("\x1b]0;owned\x07", "\x1b[2J", "\r\n", "\x9b31m", "\u202etxt.exe", "\u2066", "\x7f\x08", UNSEEN, "\0")
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069]")
#: A verb prints a string of the user's bare into a pipe only where that is what it is for.
BARE = {"get", "update"}
NAMES = ("id", "name", "agent", "model", "worktree", "branch", "cwd", "host", "transcript", "project")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_session_may_hold_what_acts_on_a_terminal(shared, name):
    for evil in set(EVIL) - {UNSEEN}:  # that is only shown as what it is
        found = shared.call("session.register", **{"id": "s", "agent": "custom", name: f"x{evil}"})
        assert found.code == "invalid_params", (name, evil, found.body)
        assert not ACTS.search(found.body["message"])


@pytest.fixture(scope="module")
def served():
    with private_home() as home, Daemon(home) as daemon:
        yield daemon


@pytest.fixture
def shared(served):
    with Json(served.socket) as peer:
        yield peer


@pytest.fixture
def hostile(daemon, tmp_path):
    """A daemon with hostile values, and keys where they are taken; commands of a user beside it."""
    everything = "".join(EVIL)
    keys = ["plain"]
    with Pack(daemon.socket) as peer:
        for key in ["plain", *(f"k{evil}" for evil in EVIL)]:
            for value in ({"a": everything, everything: [everything]}, {"a": everything * 2, "b": everything}):
                keys += [key] if peer.call("put", key=key, value=value).kind == "reply" else []
        peer.reply("put", key="text", value=everything)
    with (
        cosession.connect(socket=str(daemon.socket)) as client,
        client.session(agent="plain", name=f"plain{UNSEEN}") as session,
    ):
        session.send(session.id, everything)
        yield Cli(dict(daemon.env), str(tmp_path)), list(dict.fromkeys([*keys, "text"]))


def commands(keys: list[str]) -> list[list[str]]:
    """The verbs that show what others wrote, and those that quote what they were asked."""
    found = [["ls", "--long"], ["sessions", "--all"], ["audit", "--limit", "50"], ["watch", "--count", "2"], ["status"]]
    found += [
        ["revert", "", "--to", "0s ago", "--dry-run"],
        ["explain", "session", f"plain{UNSEEN}"],
        ["config", "show"],
        ["inbox", "--keep"],
        ["inbox", f"plain{UNSEEN}", "--all"],
        ["inbox", "--keep", "--follow", "--count", "1"],
    ]
    found += [[verb, key] for key in keys for verb in ("get", "history", "diff", "blame")]
    found += [["put", "plain", "1", "--expect", "99"], ["add", "text"], ["append", "plain", "1"]]
    asked = "".join(EVIL).replace("\0", "")
    found += [
        ["get", asked],
        ["explain", "session", asked],
        [asked],
        ["get", "--project", asked, "k"],
        ["get", "--" + asked],
        ["send", asked, "x"],
        ["send", f"plain{UNSEEN}", asked],
        ["inbox", asked],
    ]
    found += [["put", asked, "1"], ["put", "k", asked], ["txn", asked], ["get", "k", "--socket", asked]]
    return found


def test_no_verb_lets_text_of_others_act_on_a_terminal(hostile):
    cli, keys = hostile
    for words in commands(keys):
        place = () if {"--project", "--socket"} & {*words} else ("--global",)
        for more in ((), ("--json",)):
            found = cli.run(*words, *place, *more)
            assert not ACTS.search(found.err), (words, found.err)
            if more or words[0] not in BARE:
                assert not ACTS.search(found.out), (words, found.out)


def test_what_is_looked_for_would_be_seen():
    assert all(ACTS.search(evil) for evil in EVIL)
    assert not ACTS.search("plain \u00fcbung \u6f22\u5b57\n\t")
