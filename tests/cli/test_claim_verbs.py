"""claim, release, claims, why-not, explain claim: as users run them, with the mistakes of a stranger."""

# Sessions and what they claim are two things: they stand in two lines.
# ruff: noqa: SIM117
from __future__ import annotations

import subprocess

import pytest

from cosession import InvalidRequest, sync


@pytest.fixture
def repository(cli, tmp_path, monkeypatch):
    """A repository with one file, in which the commands run."""
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / "src" / "a.py").write_text("")
    cli.cwd = str(root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def otter(daemon, repository):  # noqa: ARG001 - it is there first
    """A session of this process, for which its commands act."""
    with sync.connect(daemon.socket) as client, client.session(name="otter", heartbeat_s=0) as session:
        yield session


def test_claimed_listed_explained_and_released(cli, otter, repository):
    token = cli.ok("claim", "src/a.py", "--for", "the parser").out.strip()
    (claim,) = cli.ok("claims", "--json").json["claims"]
    assert (str(claim["token"]), claim["targets"], claim["session"]) == (token, ["path:src/a.py"], otter.id)
    assert claim["worktree"] == str(repository.resolve())
    table = cli.ok("claims").out
    assert "path:src/a.py" in table
    assert "the parser" in table
    told = cli.ok("explain", "claim", token).out
    assert f"fencing token {token}" in told
    assert cli.ok("explain", "claim", token, "--json").json["standing"]["claim"]["id"] == claim["id"]
    again = cli.ok("claim", "src/a.py", "--json").json
    assert (again["id"], again["renewed"]) == (claim["id"], True)
    cli.ok("put", "k", "1", "--fence", token)
    assert claim["id"] in cli.ok("complete", "fish", "--", "cosession", "explain", "claim", "").out
    assert cli.ok("release", "src/a.py").out.strip() == claim["id"]
    assert cli.run("put", "k", "2", "--fence", token).code != 0
    assert "nothing is claimed here" in cli.ok("claims").out
    assert cli.ok("release", "src/a.py").err.startswith("cosession: there was nothing to release")


def test_why_not_says_who_and_exits_with_the_code_of_a_refusal(cli, daemon, otter):
    with sync.connect(daemon.socket) as client, client.session(name="heron", heartbeat_s=0) as heron:
        with otter.claim("name:x", purpose="to keep"):
            as_heron = {"COSESSION_SESSION": heron.id}
            told = cli.run("why-not", "name:x", env=as_heron)
            assert told.code == 3
            assert "holds name:x" in told.out
            assert "for: to keep" in told.out
            (blocker,) = cli.run("why-not", "name:x", "--json", env=as_heron).json["blockers"]
            assert blocker["claim"]["session"] == otter.id
            refused = cli.run("claim", "name:x", env=as_heron)
            assert refused.code == 3
            assert refused.err.startswith("cosession: cannot claim name:x: session ")
            assert cli.ok("why-not", "name:y").out == "nothing is in the way\n"
            before = cli.ok("why-not", "name:y", env=as_heron).out.splitlines()
            assert before[0] == "nothing is in the way"
            assert "claim.acquire name:x: claimed by" in before[1], "what was denied to this session"


def test_three_mistakes_of_a_stranger(cli, otter):
    outside = cli.run("claim", "/etc/passwd")
    assert outside.code != 0
    assert "outside of" in outside.err
    assert "claim what lies inside" in outside.err
    nothing = cli.ok("claim", "doc/*.txt", "--json").json
    assert nothing["targets"] == ["path:doc/*.txt"], "what a glob will match one day is claimed today"
    otter.close()
    nobody = cli.run("claim", "src/a.py")
    assert nobody.code != 0
    assert "register a session first" in nobody.err


def test_what_others_named_cannot_move_the_cursor(cli, otter, repository):
    odd = "name\x1b[2J"
    (repository / odd).write_text("")
    refused = cli.run("claim", odd)
    assert refused.code != 0
    assert "\x1b" not in refused.err
    with pytest.raises(InvalidRequest), otter.claim("name:a\u202eb"):
        pass
    with pytest.raises(InvalidRequest), otter.claim("name:a", purpose="to \x1b[2J"):
        pass
    assert "\x1b" not in cli.ok("claims", "--all").out
