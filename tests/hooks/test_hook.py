"""The hook against a real daemon, run by processes that stand for AI clients."""

from __future__ import annotations

import json
import os
import re
import time

from cosession.cli.claims import CLAIM
from harness import START_S, Daemon
from hooks.conftest import DATA, HOOK, Client
from rawclient import Pack


def context(said):
    return said["hookSpecificOutput"]["additionalContext"]


def holders(daemon, repository):
    """Who holds what in the repository."""
    with Pack(daemon.socket) as peer:
        listed = peer.reply("claim.list", project=str(repository / ".git"))["claims"]
    return {each["claim"]["session"]: list(each["claim"]["targets"]) for each in listed}


def test_two_clients_do_not_edit_the_same_file(client, daemon, repository):
    first, second = client("one"), client("two")
    assert "No other session" in context(first.tell("SessionStart", source="startup"))
    assert f"claude-code {first.session}, active" in context(second.tell("SessionStart", source="startup"))
    assert first.edit("a.txt") == ""
    assert first.edit("a.txt") == ""
    why = second.edit("a.txt")
    assert why.startswith("cosession: cannot edit a.txt: session ")
    assert first.session in why
    assert "left" in why
    assert second.edit("b.txt") == ""
    assert holders(daemon, repository) == {first.session: ["path:a.txt"], second.session: ["path:b.txt"]}
    with Pack(daemon.socket) as peer:
        records = peer.reply("audit", kind="denial")["records"]
    assert [(each["operation"], each["session"]) for each in records[:1]] == [("claim.acquire", second.session)]
    first.tell("SessionEnd", reason="other")
    assert second.edit("a.txt") == ""


def test_a_link_to_a_file_that_is_held_is_that_file(client, repository):
    first, second = client("one"), client("two")
    (repository / "link.txt").symlink_to("a.txt")
    assert first.edit("a.txt") == ""
    assert "a.txt" in second.edit("link.txt")
    assert second.edit("../outside.txt") == ""


def test_a_patch_is_refused_for_one_of_its_files(client):
    first, second = client("one"), client("two", "codex")
    assert first.edit("b.txt", "Write") == ""
    patch = "*** Begin Patch\n*** Add File: new.txt\n+hi\n*** Update File: b.txt\n@@\n-x\n+y\n*** End Patch\n"
    said = second.tell("PreToolUse", tool_name="apply_patch", tool_input={"command": ["apply_patch", patch]})
    assert "b.txt" in said["hookSpecificOutput"]["permissionDecisionReason"]


def test_what_others_write_is_told_once_and_quoted(client, shared):
    one = client("one")
    one.tell("SessionStart", source="startup")
    assert one.tell("UserPromptSubmit", prompt="go on") == {}
    shared.put("plan/next", {"step": "ignore\x1b[2J all"})
    told = context(one.tell("UserPromptSubmit", prompt="go on"))
    assert "plan/next" in told
    assert "\x1b" not in told
    assert one.tell("UserPromptSubmit", prompt="go on") == {}
    assert "plan/next" in context(one.tell("SessionStart", source="compact"))


def test_letters_come_with_the_next_prompt_and_only_once(client, shared):
    one = client("one")
    one.tell("SessionStart", source="startup")
    with shared.session(agent="custom", name="otter") as otter:
        otter.send(one.session, "leave src/ to me")
        assert "leave src/ to me" in context(one.tell("UserPromptSubmit", prompt="hello"))
        assert one.tell("UserPromptSubmit", prompt="hello") == {}


def test_the_client_is_the_session_and_its_death_is_noticed(client, shared):
    one, two = client("one"), client("two")
    one.edit("a.txt")
    session = next(each for each in shared.sessions() if each.id == one.session)
    assert [each.pid for each in session.instances] == [one.pid]
    one.kill()
    until = time.monotonic() + START_S
    while next(each for each in shared.sessions(all=True) if each.id == one.session).state != "crashed":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert f"crashed just now: `cosession recover {one.session} --plan`" in context(two.tell("SessionStart"))
    assert "left" in two.edit("a.txt")


def test_a_cleared_conversation_goes_on_as_another_session_with_the_claims(client, shared, daemon, repository):
    one = client("one")
    one.edit("a.txt")
    before, one.session = one.session, one.session + "-next"
    one.tell("SessionStart", source="clear")
    found = {each.id: each for each in shared.sessions(all=True)}
    assert found[before].state == "superseded"
    assert holders(daemon, repository) == {one.session: ["path:a.txt"]}


def test_whatever_a_client_sends_nothing_breaks(client):
    one = client("one")
    for payload in ("", "{", "[]", "null", '{"session_id": 7}', '{"session_id": "\\u0000"}', '{"x": ' + "[" * 5000):
        code, out, err = one.raw("PreToolUse", payload)
        assert (code, err) == (0, "")
        assert not out or json.loads(out)["systemMessage"].startswith("cosession: ")
    one.tell("Invented", session_id=one.session, tool_input=[1], tool_name=None, source={})
    one.tell("PreToolUse", tool_name="Edit", tool_input=None)
    one.tell("PreToolUse", tool_name="Edit", tool_input={"file_path": 3})
    large = json.dumps({"session_id": one.session, "tool_input": {"content": "x" * (5 << 20)}})
    assert "over 4 MiB" in json.loads(one.raw("PreToolUse", large)[1])["systemMessage"]


def test_a_mistake_in_the_settings_is_told_and_does_not_look_like_a_check(client):
    one = client("one")
    payload = json.dumps({"session_id": one.session, "hook_event_name": "PreToolUse"})
    assert "mend the hook's settings" in json.loads(one.raw("PreTolUse", payload)[1])["systemMessage"]
    assert "names no session" in json.loads(one.raw("PreToolUse", "")[1])["systemMessage"]
    assert "claude and codex" in client("two", "gemini").tell("Stop")["systemMessage"]


def test_who_looks_at_the_traffic_sees_hooks_and_ends_nothing(client, daemon):
    one = client("one")
    with Pack(daemon.socket) as peer:
        peer.reply("debug.tail")
        one.tell("SessionStart", source="startup")
        frames = peer.reply("debug.tail", wait_s=5.0)["frames"]
        frames += peer.reply("debug.tail")["frames"]
    assert [(each["kind"], each["encoding"]) for each in frames if each["method"] == "hook"][:2] == [
        ("call", "hook"),
        ("reply", "hook"),
    ]
    assert "unreadable" not in {each["kind"] for each in frames}


def test_what_a_session_is_told_to_type_can_be_typed(client):
    told = context(client("one").tell("SessionStart", source="startup"))
    (line,) = [each for each in told.splitlines() if "cosession claim" in each]
    options = re.search(r"`cosession claim 'src/\*\*' (--\S+)", line)
    assert options is not None
    assert options[1] in {each.name for each in CLAIM.options}


def test_recorded_events_of_real_clients_are_understood(client, repository):
    clients = {name: client(name, name) for name in ("claude", "codex")}
    for recorded in sorted(DATA.glob("*.json")):
        one = clients[recorded.name.partition("_")[0]]
        payload = json.loads(recorded.read_text(encoding="utf-8"))
        event = payload.get("hook_event_name", "")
        payload |= {"session_id": one.session, "cwd": str(repository)}
        code, out, err = one.raw(event, json.dumps(payload))
        assert (code, err) == (0, ""), recorded.name
        assert "systemMessage" not in out, recorded.name


def test_without_a_daemon_the_client_goes_on_and_is_told(tmp_path, repository):
    nowhere = Daemon(tmp_path)
    alone = Client(nowhere, repository, "alone")
    try:
        assert "not checked" in alone.tell("PreToolUse", tool_name="Edit", tool_input={})["systemMessage"]
    finally:
        alone.close()


def test_switched_off_it_asks_nobody(daemon, repository):
    off = Daemon(daemon.home, env={"COSESSION_OFF": "1"})
    alone = Client(off, repository, "off")
    try:
        assert "COSESSION_OFF" in alone.tell("PreToolUse", tool_name="Edit", tool_input={})["systemMessage"]
    finally:
        alone.close()


def test_the_hook_stands_alone():
    """Copied anywhere, it still runs: the fast way imports nothing of ours."""
    assert os.access(HOOK, os.R_OK)
    text = HOOK.read_text(encoding="utf-8")
    head = text[: text.index("def main")]
    assert [line for line in head.splitlines() if line.startswith(("import ", "from "))] == [
        "from __future__ import annotations",
        "import posix",
        "import sys",
        "import time",
    ]
