"""get, put, merge, delete, ls, history, txn against a real daemon: what they print, their JSON, their refusals."""

from __future__ import annotations

import json
import socket
import time

import pytest

from cosession.cli import options
from cosession.messages import limits

HOSTILE = "\x1b]0;owned\x07\u202e\x9b31mno\nnext line"


def test_a_string_comes_back_bare_and_anything_else_as_json(cli):
    cli.ok("put", "text", "parser first")
    assert cli.ok("get", "text").out == "parser first\n"
    cli.ok("put", "map", '{"step": 1, "done": [true, null, 1.5, "\\u00e9"]}')
    assert cli.ok("get", "map").out == '{"step": 1, "done": [true, null, 1.5, "\u00e9"]}\n'
    cli.ok("put", "number", "-5")
    assert cli.ok("get", "number").out == "-5\n"
    cli.ok("put", "quoted", '"5"')
    assert json.loads(cli.ok("get", "quoted", "--json").out)["value"] == "5"


def test_put_prints_the_new_revision(cli):
    first = int(cli.ok("put", "k", "1").out)
    assert cli.ok("put", "k", "2").out == f"{first + 1}\n"


def test_entry_as_json(cli):
    before = time.time()
    written = cli.ok("put", "k", '{"a": 1}', "--json").json
    assert written["key"] == "k"
    assert written["version"] == 1
    assert written["mod_revision"] == written["create_revision"] == written["revision"]
    assert written["repeated"] is False
    entry = cli.ok("get", "k", "--json").json
    assert entry["value"] == {"a": 1}
    assert {name: entry[name] for name in ("key", "version", "mod_revision", "create_revision")} == {
        name: written[name] for name in ("key", "version", "mod_revision", "create_revision")
    }
    assert before - 1 < entry["time"] < time.time() + 1
    assert entry["revision"] == written["revision"]


def test_absent_is_exit_1_and_says_where_it_looked(cli):
    assert "there is no such entry in project 'global'" in cli.refused(1, "get", "nothing").err
    assert cli.run("get", "nothing", "--json").error == {
        "code": "not_found",
        "message": "cannot get 'nothing': there is no such entry in project 'global'; see: cosession ls",
        "retryable": False,
        "data": {"key": "nothing", "project": "global", "revision": 0},
    }


def test_get_at_a_revision(cli):
    first = cli.ok("put", "k", "old").out.strip()
    cli.ok("put", "k", "new")
    assert cli.ok("get", "k", "--at", first).out == "old\n"
    assert "future" in cli.run("get", "k", "--at", "999", "--json").error["code"]


def test_text_that_looks_like_json_needs_the_flag(cli):
    cli.ok("put", "k", "5", "--string")
    assert cli.ok("get", "k", "--json").json["value"] == "5"
    for word in ("[wip] the parser", '{"step": 1,}', " {step: 1}"):
        assert "give --string to store it as text" in cli.refused(65, "put", "k", word).err
        cli.ok("put", "k", "--string", word)
        assert cli.ok("get", "k").out == f"{word}\n"
    for word in ("NaN", "nul", "1 2", "Infinity"):
        assert cli.ok("put", "k", word).err == ""
        assert cli.ok("get", "k", "--json").json["value"] == word


def test_values_from_standard_input(cli):
    cli.ok("put", "k", "-", stdin='{\n  "a": [1,\r\n 2]\n}\n')
    assert cli.ok("get", "k").out == '{"a": [1, 2]}\n'
    cli.ok("put", "k", "-", "--string", stdin="line 1\nline 2\n")
    assert cli.ok("get", "k").out == "line 1\nline 2\n"
    assert "--string for an empty string" in cli.refused(65, "put", "k", "-", stdin="").err
    assert cli.ok("get", "k").out == "line 1\nline 2\n"
    cli.ok("put", "k", "-", "--string", stdin="")
    assert cli.ok("get", "k", "--json").json["value"] == ""


def test_what_is_no_value_is_refused_with_its_reason(cli):
    assert "not valid UTF-8" in cli.refused(64, "put", "k", "-", stdin=b"\xff\xfe").err
    assert "same name twice" in cli.refused(64, "put", "k", '{"a": 1, "a": 2}').err
    assert "64-bit" in cli.refused(64, "put", "k", "123456789012345678901234567890").err
    assert "\\ud800" not in cli.refused(64, "put", "k", '"\\ud800"').out
    cli.refused(65, "put", "k", "-", "--string", stdin="x" * 300_000)
    cli.refused(65, "put", "k", "-", "--string", stdin="x" * 17_000_000)
    cli.refused(65, "put", "k" * 600, "1")
    cli.refused(64, "put", "k", "[" * 40 + "]" * 40)
    assert cli.ok("ls").out == "", "none of it was stored"


def test_a_key_that_is_not_utf8(cli):
    assert "not valid UTF-8" in cli.refused(64, "get", b"\xff".decode(errors="surrogateescape")).err


def test_compare_and_swap(cli):
    revision = cli.ok("put", "k", "1", "--expect", "0").out.strip()
    result = cli.refused(3, "put", "k", "2", "--expect", "0")
    assert revision in result.err
    conflict = cli.run("put", "k", "2", "--expect", "0", "--json")
    assert conflict.code == 3
    assert conflict.error["code"] == "conflict"
    assert conflict.error["data"]["current"]["value"] == 1
    cli.ok("put", "k", "2", "--expect", revision)
    assert cli.ok("get", "k").out == "2\n"


def test_entries_expire_after_their_ttl(cli):
    cli.ok("put", "long", "1", "--ttl", "600")
    assert cli.ok("get", "long", "--json").json["ttl_s"] == 600
    cli.ok("put", "k", "1", "--ttl", "0.2")
    deadline = time.monotonic() + 10
    while cli.run("get", "k").code != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_merge_prints_what_it_became(cli):
    cli.ok("put", "k", '{"a": 1, "b": 2}')
    assert cli.ok("merge", "k", '{"b": null, "c": 3}').out == '{"a": 1, "c": 3}\n'
    merged = cli.ok("merge", "new", '{"a": 1}', "--json").json
    assert merged["value"] == {"a": 1}
    assert merged["version"] == 1
    cli.refused(65, "merge", "k", "{oops")
    cli.refused(3, "merge", "k", "{}", "--expect", "1000")


def test_add_prints_the_sum(cli):
    assert cli.ok("add", "n").out == "1\n"
    assert cli.ok("add", "n", "-3").out == "-2\n"
    assert cli.ok("add", "n", "0.5", "--json").json["value"] == -1.5
    cli.refused(64, "add", "n", "x" * 3, "y")
    cli.refused(65, "add", "n", "one")
    cli.refused(64, "add", "n", "true")
    cli.ok("put", "n", "text")
    assert "is no number" in cli.refused(65, "add", "n").err
    cli.refused(3, "add", "n", "--expect", "1000")


def test_append_prints_the_length(cli):
    assert cli.ok("append", "l", "plain text").out == "1\n"
    assert cli.ok("append", "l", '{"a": 1}', "-", "--json", stdin="[2]").json["length"] == 3
    assert cli.ok("append", "l", "7", "--string").out == "4\n"
    assert cli.ok("get", "l").out == '["plain text", {"a": 1}, [2], "7"]\n'
    cli.refused(64, "append", "l", "-", "-")
    cli.ok("put", "l", "text")
    assert "is no list" in cli.refused(65, "append", "l", "1").err


def test_delete(cli):
    cli.ok("put", "k", "1")
    deleted = cli.ok("delete", "k", "--json").json
    assert deleted["deleted"] is True
    assert deleted["kind"] == "delete"
    again = cli.ok("delete", "k")
    assert again.out == ""
    assert "there was no 'k' to delete" in again.err
    assert cli.ok("delete", "k", "--json").json["deleted"] is False
    cli.refused(3, "delete", "k", "--expect", "7")


def test_ls(cli):
    assert cli.ok("ls", "--json").json == {"entries": [], "more": False, "revision": 0}
    for key in ("plan/b", "plan/a", "note"):
        cli.ok("put", key, f'"{key}!"')
    assert cli.ok("ls").out == "note\nplan/a\nplan/b\n"
    assert cli.ok("ls", "plan/").out == "plan/a\nplan/b\n"
    limited = cli.ok("ls", "--limit", "2")
    assert limited.out == "note\nplan/a\n"
    assert "there are more" in limited.err
    listed = cli.ok("ls", "plan/", "--json").json
    assert [entry["value"] for entry in listed["entries"]] == ["plan/a!", "plan/b!"]
    lines = cli.ok("ls", "--long").out.splitlines()
    assert lines[0].split() == ["KEY", "VERSION", "REVISION", "CHANGED", "SIZE", "SESSION", "VALUE"]
    assert lines[1].split()[0] == "note"
    assert lines[1].endswith("note!")


def test_ls_reads_all_pages_at_one_revision(cli):
    for start in range(0, 2_100, 100):
        puts = [{"op": "put", "key": f"k{index:05}", "value": index} for index in range(start, start + 100)]
        cli.ok("txn", "-", stdin=json.dumps({"then": puts}))
    assert cli.ok("ls").out.splitlines() == [f"k{index:05}" for index in range(2_100)]
    assert len(cli.ok("ls", "--json", "--limit", "1500").json["entries"]) == 1_500


def test_history(cli):
    for value in (1, 2):
        cli.ok("put", "k", str(value))
    cli.ok("delete", "k")
    versions = cli.ok("history", "k", "--json").json
    assert [(each["kind"], each["value"]) for each in versions["versions"]] == [
        ("delete", None),
        ("put", 2),
        ("put", 1),
    ]
    assert versions["more"] is False
    lines = cli.ok("history", "k", "--limit", "2").out.splitlines()
    assert lines[0].split()[:3] == ["REVISION", "KIND", "VERSION"]
    assert [line.split()[1] for line in lines[1:]] == ["delete", "put"]
    assert "--before" in cli.ok("history", "k", "--limit", "1").err
    assert "has none of it" in cli.refused(1, "history", "never").err
    assert cli.ok("history", "never", "--json").json["versions"] == []


def test_txn(cli):
    steps = {
        "compares": [{"kind": "entry", "key": "a", "value": 0}],
        "then": [{"op": "put", "key": "a", "value": {"x": 1}}, {"op": "put", "key": "b", "value": 2}],
    }
    result = cli.ok("txn", json.dumps(steps, indent=1), "--json").json
    assert result["succeeded"] is True
    assert [each["key"] for each in result["written"]] == ["a", "b"]
    conflict = cli.run("txn", json.dumps(steps), "--json")
    assert (conflict.code, conflict.error["code"]) == (3, "conflict")
    steps["else"] = [{"op": "delete", "key": "a"}]
    out = cli.ok("txn", stdin=json.dumps(steps)).out
    assert out.startswith("else: 1 written at revision ")
    assert "delete a" in out
    assert cli.ok("txn", "{}", "--json").json["written"] == []


@pytest.mark.parametrize(
    ("text", "code"), [("[]", 64), ("{", 65), ('{"the": []}', 64), ('{"then": 5}', 64), ('{"then": [{"op": "x"}]}', 64)]
)
def test_a_txn_that_is_none(cli, text, code):
    cli.refused(code, "txn", text)


def test_projects_are_apart(cli, tmp_path):
    cli.ok("put", "k", "global value")
    cli.ok("put", "k", "other", "--project", "p1")
    assert cli.ok("get", "k").out == "global value\n"
    assert cli.ok("get", "k", "--project", "p1").out == "other\n"
    assert cli.ok("get", "k", "--project=p1", "--json").json["value"] == "other"
    assert cli.ok("get", "k", env={"COSESSION_PROJECT": "p1"}).out == "other\n"
    assert cli.ok("get", "k", "--global", env={"COSESSION_PROJECT": "p1"}).out == "global value\n"
    assert "in no git repository" in cli.refused(64, "get", "k", "--project", str(tmp_path)).err
    cli.refused(64, "get", "k", "--project", "p1", "--global")
    for part in ("objects", "refs"):
        (tmp_path / "repo" / ".git" / part).mkdir(parents=True)
    (tmp_path / "repo" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    cli.ok("put", "k", "in the repository", "--project", "./repo")
    cli.cwd = str(tmp_path / "repo")
    assert cli.ok("get", "k").out == "in the repository\n"


def test_what_was_stored_cannot_drive_a_terminal(cli):
    cli.ok("put", "k", HOSTILE)
    for arguments in (("ls",), ("ls", "--long"), ("history", "k"), ("get", "k", "--json"), ("ls", "--json")):
        out = cli.ok(*arguments).out
        assert out.replace("\n", "").isprintable(), arguments
    refused = cli.refused(64, "get", "gone\x1b[2J\u202e").err + cli.refused(1, "get", "gone\u202e").err
    assert refused.replace("\n", "").isprintable()
    assert cli.ok("get", "k").out == HOSTILE + "\n", "a pipe gets it exactly"


def test_where_output_is_not_utf8_it_is_ascii(cli):
    cli.ok("put", "caf\u00e9", '["\U0001f9a6"]')
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments in (("ls", "--long"), ("get", "caf\u00e9"), ("ls", "--json"), ("get", "--help")):
        assert cli.ok(*arguments, env=env).out_bytes.isascii(), arguments
    assert json.loads(cli.ok("get", "caf\u00e9", env=env).out) == ["\U0001f9a6"]


def test_whose_value_was_replaced(cli):
    with_session = [
        '{"jsonrpc":"2.0","id":1,"method":"session.register","params":{"id":"s-1","name":"otter","heartbeat_s":0}}',
        '{"jsonrpc":"2.0","id":2,"method":"put","params":{"key":"k","value":1,"session":"s-1"}}',
    ]
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(cli.ok("sockname").out.strip())
        answers = peer.makefile("rw")
        for line in with_session:
            answers.write(line + "\n")
            answers.flush()
            reply = json.loads(answers.readline())
            assert "result" in reply, reply
        # This test process is the session, so a child of it writes for that session too: no word about itself.
        assert cli.ok("put", "k", "2").err == ""
        assert cli.ok("get", "k", "--json").json["session"] == "s-1"


def test_a_revision_that_is_not_yet_there_is_told_how_far_the_store_is(cli):
    cli.ok("put", "k", "1")
    assert cli.refused(65, "get", "k", "--at", "2").err.endswith("the store is at 1; ask for that or less\n")
    err = cli.refused(65, "watch", "--from", "3", "--count", "1").err
    assert err.endswith("the store is at 1; begin right above that or below\n")


def test_an_empty_list_says_so_to_people_only(cli):
    assert (cli.ok("ls").out, cli.ok("ls").err) == ("", "cosession: project 'global' has no key\n")
    cli.ok("put", "k", "1")
    assert "no key that starts with 'z'" in cli.ok("ls", "z").err
    assert not cli.ok("ls", "z", "--json").err
    assert not cli.ok("ls").err


def test_a_transaction_that_is_none_is_told_what_one_is(cli):
    assert "it is no JSON object; give an object with" in cli.refused(64, "txn", "[1]").err
    assert "it has no 'thn'; give an object with" in cli.refused(64, "txn", '{"thn": []}').err
    assert 'a write is {"op": "put"' in cli.refused(64, "txn", '{"then": [{"op": "putt", "key": "a"}]}').err


def test_a_transaction_that_asks_for_nothing_says_so(cli):
    done = cli.ok("txn", "{}")
    assert (done.out, done.err.count("asks for nothing")) == ("then: nothing written\n", 1)
    checked = cli.ok("txn", '{"compares": [{"kind": "entry", "key": "a", "value": 0}]}')
    assert (checked.out, checked.err) == ("then: nothing written\n", "")
    assert cli.ok("txn", "{}", "--json").err == ""


def test_a_time_to_live_is_what_the_daemon_grants(cli):
    assert options.TTL_S_MAX == limits.TTL_S_MAX
    cli.ok("put", "k", "1", "--ttl", "31622400")
    for words in (("put", "k", "1"), ("update", "k", "--", "cat")):
        verb, *rest = words
        assert "from 0.001 to 31622400, not '31622401'" in cli.refused(64, verb, "--ttl", "31622401", *rest).err
