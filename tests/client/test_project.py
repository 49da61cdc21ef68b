"""Projects, worktrees and branches: what git makes, and what a hostile tree claims."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys

import pytest

from cosession import project
from cosession.messages.limits import PROJECT_BYTES_MAX
from cosession.project import NAME_BYTES_MAX, branch_of, project_of, worktree_of

NOTHING = {}
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(*args, cwd):
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    subprocess.run(["git", *args], cwd=cwd, env=env, check=True, capture_output=True)


@pytest.fixture
def place(tmp_path):
    """A directory with nothing of git above it."""
    return tmp_path.resolve()


@pytest.fixture
def repository(place):
    path = place / "repo"
    path.mkdir()
    git("init", "-b", "main", cwd=path)
    git("commit", "--allow-empty", "-m", "first", cwd=path)
    return path


def fake_git_directory(path):
    path.mkdir(parents=True)
    (path / "HEAD").write_text("ref: refs/heads/main\n")
    (path / "objects").mkdir()
    (path / "refs").mkdir()
    return path


@needs_git
class TestWhatGitMakes:
    def test_the_common_directory_names_the_project(self, repository):
        deep = repository / "a" / "b"
        deep.mkdir(parents=True)
        assert project_of(str(deep), NOTHING) == str(repository / ".git")
        assert worktree_of(str(deep)) == str(repository)
        assert branch_of(str(deep)) == "main"

    def test_a_worktree_is_the_same_project_with_its_own_branch(self, repository, place):
        git("worktree", "add", "-b", "side/branch", str(place / "tree"), cwd=repository)
        tree = str(place / "tree")
        assert project_of(tree, NOTHING) == str(repository / ".git")
        assert worktree_of(tree) == tree
        assert branch_of(tree) == "side/branch"
        assert branch_of(str(repository)) == "main"

    def test_a_worktree_that_was_moved_by_hand_is_nobodys(self, repository, place):
        git("worktree", "add", "-b", "side", str(place / "tree"), cwd=repository)
        (place / "tree").rename(place / "moved")
        assert project_of(str(place / "moved"), NOTHING) == "global"

    def test_two_clones_are_two_projects(self, repository, place):
        git("clone", str(repository), str(place / "clone"), cwd=place)
        assert project_of(str(place / "clone"), NOTHING) == str(place / "clone" / ".git")

    def test_a_submodule_is_a_project_of_its_own(self, repository, place):
        git("init", "-b", "main", "outer", cwd=place)
        outer = place / "outer"
        git("-c", "protocol.file.allow=always", "submodule", "add", str(repository), "inner", cwd=outer)
        assert project_of(str(outer / "inner"), NOTHING) == str(outer / ".git" / "modules" / "inner")

    def test_a_bare_repository_and_its_worktrees_are_one(self, repository, place):
        git("clone", "--bare", str(repository), str(place / "bare.git"), cwd=place)
        git("worktree", "add", str(place / "tree"), "main", cwd=place / "bare.git")
        assert project_of(str(place / "bare.git"), NOTHING) == str(place / "bare.git")
        assert project_of(str(place / "tree"), NOTHING) == str(place / "bare.git")

    def test_inside_the_git_directory(self, repository):
        assert project_of(str(repository / ".git" / "objects"), NOTHING) == str(repository / ".git")

    def test_inside_the_git_directory_of_a_worktree(self, repository, place):
        git("worktree", "add", "-b", "side", str(place / "tree"), cwd=repository)
        assert project_of(str(repository / ".git" / "worktrees" / "tree"), NOTHING) == str(repository / ".git")

    def test_a_separate_git_directory(self, place):
        git("init", "-b", "main", f"--separate-git-dir={place / 'elsewhere'}", str(place / "repo"), cwd=place)
        assert project_of(str(place / "repo"), NOTHING) == str(place / "elsewhere")

    def test_a_detached_head_has_no_branch(self, repository):
        git("checkout", "--detach", cwd=repository)
        assert branch_of(str(repository)) == ""

    def test_through_a_link(self, repository, place):
        (place / "link").symlink_to(repository)
        assert project_of(str(place / "link"), NOTHING) == str(repository / ".git")


def test_no_repository(place):
    assert project_of(str(place), NOTHING) == "global"
    assert worktree_of(str(place)) == ""
    assert branch_of(str(place)) == ""


def test_a_directory_that_is_not_there():
    assert project_of("/no/such/place", NOTHING) == "global"
    assert project_of("/no\0where", NOTHING) == "global"


def test_the_environment_overrides(place):
    assert project_of(str(place), {"COSESSION_PROJECT": "mine"}) == "mine"
    assert project_of(str(place), {"COSESSION_PROJECT": ""}) == "global"


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_names_the_protocol_does_not_take_are_hashed(place):
    assert NAME_BYTES_MAX == PROJECT_BYTES_MAX
    odd = place / os.fsdecode(b"latin-\xe4")
    fake_git_directory(odd / ".git")
    assert project_of(str(odd), NOTHING).startswith("path-sha256:")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"gitdir: \n",
        b"gitdir: /etc\n",
        b"gitdir: /no/such/place\n",
        b"not a gitdir\n",
        b"gitdir: " + b"x" * 5000,
        b"gitdir: \0/etc\n",
        b"gitdir: {victim}\nsecond line\n",
        b"gitdir: {victim}\n",  # another tree's own
        b"gitdir: {self}\n",
        b"\xff\xfe\x00",
    ],
)
def test_hostile_git_files_give_global(place, content):
    victim = fake_git_directory(place / "victim" / ".git")
    tree = place / "tree"
    tree.mkdir()
    content = content.replace(b"{victim}", os.fsencode(victim)).replace(b"{self}", os.fsencode(tree / ".git"))
    (tree / ".git").write_bytes(content)
    assert project_of(str(tree), NOTHING) == "global"
    assert branch_of(str(tree)) == ""


def test_a_git_directory_cannot_borrow_another_by_commondir(place):
    victim = fake_git_directory(place / "victim" / ".git")
    own = fake_git_directory(place / "tree" / ".git")
    (own / "commondir").write_text(f"{victim}\n")
    assert project_of(str(place / "tree"), NOTHING) == "global"
    loose = place / "loose"
    loose.mkdir()
    (loose / "HEAD").write_text("ref: refs/heads/main\n")
    (loose / "commondir").write_text(f"{victim}\n")
    assert project_of(str(loose), NOTHING) == "global"


def test_a_worktree_entry_that_names_another_tree_is_not_borrowed(place):
    victim = fake_git_directory(place / "victim" / ".git")
    entry = victim / "worktrees" / "w"
    entry.mkdir(parents=True)
    (entry / "HEAD").write_text("ref: refs/heads/side\n")
    (entry / "commondir").write_text("../..\n")
    (entry / "gitdir").write_text(f"{place / 'real' / '.git'}\n")
    for name in ("real", "thief"):
        (place / name).mkdir()
        (place / name / ".git").write_text(f"gitdir: {entry}\n")
    assert project_of(str(place / "real"), NOTHING) == str(victim)
    assert project_of(str(place / "thief"), NOTHING) == "global"


def test_a_linked_git_directory_of_another_tree_is_not_borrowed(place):
    victim = fake_git_directory(place / "victim" / ".git")
    (place / "tree").mkdir()
    (place / "tree" / ".git").symlink_to(victim)
    assert project_of(str(place / "tree"), NOTHING) == "global"


def test_a_hostile_git_hides_what_is_above_it(place):
    fake_git_directory(place / "outer" / ".git")
    inner = place / "outer" / "inner"
    inner.mkdir()
    (inner / ".git").write_text("gitdir: /etc\n")
    assert project_of(str(inner), NOTHING) == "global"


def test_a_fifo_is_not_waited_for(place):
    git_directory = fake_git_directory(place / "tree" / ".git")
    (git_directory / "HEAD").unlink()
    os.mkfifo(git_directory / "HEAD")
    assert project_of(str(place / "tree"), NOTHING) == "global"
    (place / "other").mkdir()
    os.mkfifo(place / "other" / ".git")
    assert project_of(str(place / "other"), NOTHING) == "global"


@pytest.mark.parametrize(
    ("head", "branch"),
    [
        ("ref: refs/heads/feature/x\n", "feature/x"),
        ("ref: refs/heads/ünïcode\n", "ünïcode"),
        ("ref: refs/tags/v1\n", ""),
        ("ref: refs/heads/.invalid\n", ""),
        ("ref: refs/heads/\n", ""),
        ("0123456789012345678901234567890123456789\n", ""),
        ("ref: refs/heads/a\x1b[31m\n", ""),
        ("ref: refs/heads/" + "x" * 300 + "\n", ""),
        ("ref: refs/heads/x\n" + "y" * 5000, ""),
    ],
)
def test_branches(place, head, branch):
    git_directory = fake_git_directory(place / ".git")
    (git_directory / "HEAD").write_text(head)
    assert branch_of(str(place)) == branch


@pytest.mark.parametrize(("answer", "kept"), [(b"/Users/u/Repo", True), (None, False), (b"", False)])
def test_on_a_mac_a_directory_has_the_letters_that_the_file_system_keeps(tmp_path, monkeypatch, answer, kept):
    """F_GETPATH of fcntl(2), on a Mac that was not there."""
    asked = []

    def control(_descriptor, command, room):
        asked.append(command)
        if answer is None:
            raise OSError
        return answer.ljust(len(room), b"\0")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_GETPATH", 50, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    assert project._real(str(tmp_path)) == ("/Users/u/Repo" if kept else os.path.realpath(tmp_path))
    assert asked == [50]
    assert project._real(str(tmp_path / "nowhere")) == os.path.realpath(tmp_path / "nowhere")


def test_a_path_into_a_repository_means_its_project_and_anything_else_is_a_name(tmp_path):
    repository = tmp_path.resolve() / "repo"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / "inside").mkdir()
    for named in (repository, repository / "inside", repository / ".git"):
        assert project.project_meant(str(named)) == str(repository / ".git")
    for named in ("name", str(tmp_path), str(tmp_path / "nothing"), "a/b"):
        assert project.project_meant(named) == named
