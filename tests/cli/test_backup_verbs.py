"""`backup now`, `backup list`, `backup verify`, as a user runs them, and the three mistakes: a name that nothing has, a
backup that is damaged, no daemon.
"""

from __future__ import annotations

import re

NAME = r"\d{20}-\d{8}T\d{6}Z-demand"


def test_now_list_and_verify(cli, home):
    empty = cli.run("backup", "list")
    assert (empty.code, empty.out) == (1, "no backup yet; to make one: cosession backup now\n")
    assert "make one: cosession backup now" in cli.refused(1, "backup", "verify").err
    cli.ok("put", "a", "some words")
    assert re.fullmatch(rf"{NAME}: 1 entries at revision 1, [\d.]+ KiB\n", cli.ok("backup", "now").out)
    made = cli.ok("backup", "now", "--json").json["backup"]
    assert (made["state"], made["revision"], made["reason"]) == ("valid", 1, "demand")
    listed = cli.ok("backup", "list", "--json").json
    assert [each["state"] for each in listed["backups"]] == ["valid"] * 2
    assert listed["backups"][0] == made
    assert listed["directory"] == str(home / "state" / "backups")
    head, newest, _ = cli.ok("backup", "list").out.splitlines()
    assert head.split() == ["NAME", "STATE", "REVISION", "AGE", "ENTRIES", "SIZE", "REASON"]
    assert newest.startswith(made["name"])
    assert cli.ok("backup", "verify").out == f"{made['name']}: whole\n"
    every = cli.ok("backup", "verify", "--all", "--json").json["backups"]
    assert [each["wrong"] for each in every] == ["", ""]


def test_a_name_that_nothing_has(cli):
    for name in ("notes", "../../etc/passwd", "00000000000000000009-20260101T000000Z-demand"):
        assert "see: cosession backup list" in cli.refused(1, "backup", "verify", name).err
    assert cli.run("backup", "verify", "notes", "--json").error["code"] == "not_found"


def test_a_damaged_backup(cli, home):
    cli.ok("put", "a", "some words")
    name = cli.ok("backup", "now", "--json").json["backup"]["name"]
    path = home / "state" / "backups" / f"{name}.db"
    path.write_bytes(path.read_bytes().replace(b"some words", b"some w0rds"))
    found = cli.run("backup", "verify", name)
    assert found.code == 70
    assert re.fullmatch(rf"{NAME}: damaged: .*does not match its hash.*\n", found.out)
    listed = cli.run("backup", "list")
    assert listed.code == 1, "there is none that can be used"
    assert listed.out.splitlines()[1].split()[1] == "damaged"


def test_without_a_daemon(nowhere, home, monkeypatch):
    monkeypatch.setitem(nowhere.env, "COSESSION_NO_SPAWN", "1")
    for verb in ("now", "list", "verify"):
        nowhere.refused(69, "backup", verb)
    assert not (home / "state").exists()
