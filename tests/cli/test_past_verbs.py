"""diff, blame and the merging put against a real daemon."""

from __future__ import annotations

import re


def written(cli, key, value, *more):
    """Put a value as JSON; the new revision."""
    return cli.ok("put", key, value, *more).out.strip()


def test_diff_shows_what_the_last_write_changed(cli):
    written(cli, "plan", '{"step": 1, "owner": "a/b", "list": [1, 2, 3]}')
    written(cli, "plan", '{"step": 2, "list": [1, 3], "done~": null}')
    done = cli.ok("diff", "plan")
    assert done.out == '~ /step    1 -> 2\n- /owner   "a/b"\n- /list/1  2\n+ /done~0  null\n'
    assert done.err == ""
    assert cli.ok("diff", "plan", "--json").json == {
        "changes": [
            {"op": "replace", "path": "/step", "old": 1, "new": 2},
            {"op": "remove", "path": "/owner", "old": "a/b", "new": None},
            {"op": "remove", "path": "/list/1", "old": 2, "new": None},
            {"op": "add", "path": "/done~0", "old": None, "new": None},
        ],
        "equal": False,
    }


def test_diff_between_revisions_and_entries(cli):
    first = written(cli, "a", "1")
    second = written(cli, "a", "[1]")
    written(cli, "b", "[1, 1]")
    third = written(cli, "a", '"\\u001b[31m"')
    assert cli.ok("diff", "a", "--from", first, "--to", second).out == "~ (whole)  1 -> [1]\n"
    assert cli.ok("diff", "a", "--from", first).out == '~ (whole)  1 -> "\\u001b[31m"\n'
    assert cli.ok("diff", "a", "b", "--from", second).out == "+ /1  1\n"
    same = cli.ok("diff", "a", "--from", third)
    assert (same.out, same.err) == ("", "cosession: there is no difference\n")


def test_the_exit_code_of_diff(cli):
    """0 either way, as `git diff`: 1 is the code for what is not there; --exit-code asks for 1 on a difference."""
    written(cli, "a", "1")
    written(cli, "b", "2")
    assert cli.run("diff", "a", "b").code == 0
    assert cli.run("diff", "a", "b", "--exit-code").code == 1
    assert cli.run("diff", "a", "a", "--from", "1", "--exit-code").code == 0
    assert cli.run("diff", "a", "nothing", "--json").error["code"] == "not_found"


def test_an_entry_does_not_differ_from_itself(cli):
    """Only one KEY alone means its last write."""
    written(cli, "a", "1")
    written(cli, "a", "2")
    same = cli.ok("diff", "a", "a", "--exit-code")
    assert (same.out, same.err) == ("", "cosession: there is no difference\n")
    assert cli.run("diff", "a", "--exit-code").code == 1
    assert cli.run("diff", "nothing", "nothing", "--json").error["code"] == "not_found"


def test_diff_where_an_entry_was_absent(cli):
    written(cli, "other", "0")
    written(cli, "a", '{"x": 1}')
    assert cli.ok("diff", "a").out == '+ (whole)  {"x": 1}\n'
    assert cli.ok("diff", "a", "--from", "1").out == '+ (whole)  {"x": 1}\n'
    cli.ok("delete", "a")
    assert cli.ok("diff", "a").out == '- (whole)  {"x": 1}\n'
    assert "has none of it" in cli.refused(1, "diff", "a", "--from", "1", "--to", "1").err
    assert "has none of it" in cli.refused(1, "diff", "a", "other").err
    assert "has none of it" in cli.refused(1, "diff", "never").err
    assert cli.refused(65, "diff", "other", "--from", "999").err


def test_blame_names_who_wrote_each_part(cli):
    written(cli, "plan", '{"step": 1, "owner": "otter", "tags": ["x"]}')
    cli.ok("merge", "plan", '{"step": 2}')
    cli.ok("put", "plan", '{"step": 2, "owner": "otter", "tags": ["y", "x"]}')
    rows = [re.split(r"  +", line.strip()) for line in cli.ok("blame", "plan").out.splitlines()]
    assert rows[0] == ["PATH", "VALUE", "SESSION", "WHEN", "REVISION", "OPERATION"]
    assert [(row[0], row[1], row[4], row[5]) for row in rows[1:]] == [
        ("/step", "2", "2", "merge"),
        ("/owner", "otter", "1", "put"),
        ("/tags/0", "y", "3", "put"),
        ("/tags/1", "x", "1", "put"),
    ]
    part = cli.ok("blame", "plan", "/step", "--json").json
    assert (part["key"], part["oldest_revision"], len(part["parts"])) == ("plan", 1, 1)
    (step,) = part["parts"]
    assert (step["path"], step["value"], step["mod_revision"], step["operation"]) == ("/step", 2, 2, "merge")
    assert re.fullmatch(r"\d+@\d+", step["instance"])
    assert step["request_id"]


def test_blame_says_what_is_older_than_what_is_kept(cli):
    written(cli, "k", '{"old": 1, "n": 0}')
    for number in range(1, 52):
        cli.ok("merge", "k", f'{{"n": {number}}}')
    done = cli.ok("blame", "k")
    assert re.search(r"^/old +1 +- +- +older +-$", done.out, re.MULTILINE)
    assert (
        done.err
        == "cosession: older: it was there before the versions that are kept, or before one whose value was purged\n"
    )
    (old,) = cli.ok("blame", "k", "/old", "--json").json["parts"]
    assert (old["mod_revision"], old["session"], old["time"]) == (0, "", 0.0)


def test_nothing_is_said_of_what_was_purged(cli):
    for value in ('{"a": "secret"}', '{"a": "secret", "b": 1}', '{"a": 1, "b": 1}', '{"a": 1, "b": 2}'):
        cli.ok("put", "k", value)
    cli.ok("purge", "k", "--before", "3")
    found = {part["path"]: part["mod_revision"] for part in cli.ok("blame", "k", "--json").json["parts"]}
    assert found == {"/a": 0, "/b": 4}
    assert "was purged" in cli.refused(4, "diff", "k", "--from", "2").err


def test_blame_of_what_is_not_there(cli):
    assert "has none of it" in cli.refused(1, "blame", "never").err
    written(cli, "k", '{"a": {"b": 1}}')
    assert "no part of its value" in cli.refused(1, "blame", "k", "/b").err
    assert cli.ok("blame", "k", "/a").out.splitlines()[1].startswith("/a/b")
    cli.ok("delete", "k")
    assert "has none of it" in cli.refused(1, "blame", "k").err


def test_a_put_is_merged_with_what_others_wrote(cli):
    base = written(cli, "plan", '{"step": 1, "owner": "otter"}')
    cli.ok("merge", "plan", '{"owner": "heron"}')
    done = cli.ok("put", "plan", '{"step": 2, "owner": "otter"}', "--expect", base, "--merge", "three-way", "--json")
    assert done.json["value"] == {"step": 2, "owner": "heron"}
    assert cli.ok("get", "plan").out == '{"step": 2, "owner": "heron"}\n'
    refused = cli.run("put", "plan", '{"step": 9, "owner": "x"}', "--expect", base, "--merge", "three-way", "--json")
    assert refused.code == 3
    assert refused.error["data"]["paths"] == ["/step", "/owner"]
    assert refused.error["data"]["current"]["value"] == {"step": 2, "owner": "heron"}
    assert "/step, /owner" in refused.error["message"]


def test_a_merging_put_that_meets_nobody_is_a_put(cli):
    assert written(cli, "k", "1", "--expect", "0", "--merge", "three-way") == "1"
    cli.refused(64, "put", "k", "1", "--merge", "three-way")
    cli.refused(64, "put", "k", "1", "--expect", "1", "--merge", "both")


def test_status_counts_conflicts(cli):
    written(cli, "k", "1")
    cli.run("put", "k", "2", "--expect", "9")
    assert re.search(r"^conflicts 0 resolved, 1 not$", cli.ok("status").out, re.MULTILINE)
    status = cli.ok("status", "--json").json
    assert (status["conflicts_resolved"], status["conflicts_unresolved"], status["conflicts_pending"]) == (0, 1, 0)
