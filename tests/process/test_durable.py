"""What the daemon writes itself lasts: synced in the right order and by the right call, and whole at any moment."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from cosession.errors import ConfigError
from cosessiond.process import durable, secret


def names(directory):
    return sorted(path.name for path in directory.iterdir())


EIO = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def place(tmp_path):
    """An open directory."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What is done to the disk, in order: what was synced, and what was renamed."""
    done = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor):
        found = os.fstat(descriptor)
        at = next(each for each in (tmp_path, *tmp_path.rglob("*")) if each.stat().st_ino == found.st_ino)
        size = f" {found.st_size}" if stat.S_ISREG(found.st_mode) else ""
        done.append(f"sync {at.relative_to(tmp_path)}{size}")
        real_fsync(descriptor)

    def rename(old, new, **options):
        done.append(f"rename {old} {new}")
        real_rename(old, new, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    return done


# How a file is synced.


class Control:
    """fcntl(2) of macOS on a file system that takes F_FULLFSYNC, or refuses it with `code`."""

    def __init__(self, code=0):
        self.code = code
        self.asked = []

    def __call__(self, descriptor, command):
        self.asked.append((descriptor, command))
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        return 0


def test_on_a_mac_the_drive_is_made_to_write(place, calls):
    control = Control()
    durable.sync(place, platform="darwin", control=control)
    assert control.asked == [(place, 51)]
    assert calls == [], "one of the two is enough"


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL])
def test_a_file_system_of_a_mac_that_does_not_know_it_gets_the_plain_one(place, calls, code):
    durable.sync(place, platform="darwin", control=Control(code))
    assert calls == ["sync ."]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EBADF])
def test_a_sync_that_fails_on_a_mac_is_no_refusal(place, calls, code):
    with pytest.raises(OSError, match=os.strerror(code)):
        durable.sync(place, platform="darwin", control=Control(code))
    assert calls == [], "a second try may say ok and mean nothing"


def test_elsewhere_it_is_fsync(place, calls):
    control = Control()
    durable.sync(place, platform="linux", control=control)
    assert (calls, control.asked) == (["sync ."], [])


@pytest.mark.parametrize(("code", "fails"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_directory_that_cannot_be_synced_is_left_at_that(place, monkeypatch, code, fails):
    def fsync(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    if fails:
        with pytest.raises(OSError, match="Input/output"):
            durable.sync_directory(place)
    else:
        durable.sync_directory(place)
    with pytest.raises(OSError, match=os.strerror(code)):
        durable.sync(place, platform="linux")


# A file, whole or not at all.

IN_ORDER = ["sync secret.new 4", "rename secret.new secret", "sync ."]


def test_content_is_synced_before_its_name_and_the_name_before_the_return(place, calls, tmp_path):
    durable.write_whole(place, "secret", b"1234")
    assert calls == IN_ORDER
    assert (tmp_path / "secret").read_bytes() == b"1234"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert names(tmp_path) == ["secret"]


def in_place(directory, name, data):
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=directory)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)


def without_content(directory, name, data):
    descriptor = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory)
    os.fsync(descriptor)
    os.write(descriptor, data)
    os.close(descriptor)
    os.rename(f"{name}.new", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def without_its_name(directory, name, data):
    descriptor = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(f"{name}.new", name, src_dir_fd=directory, dst_dir_fd=directory)


@pytest.mark.parametrize("careless", [in_place, without_content, without_its_name])
def test_a_careless_way_would_be_noticed(place, calls, careless):
    careless(place, "secret", b"1234")
    assert calls != IN_ORDER


@pytest.mark.parametrize("step", ["sync", "rename"])
def test_what_fails_on_the_way_leaves_the_old_one(place, monkeypatch, tmp_path, step):
    (tmp_path / "secret").write_bytes(b"old")

    def fails(*_args, **_options):
        raise EIO

    monkeypatch.setattr(*((durable, "sync") if step == "sync" else (os, "rename")), fails)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_whole(place, "secret", b"new")
    assert names(tmp_path) == ["secret"]
    assert (tmp_path / "secret").read_bytes() == b"old"


@pytest.mark.parametrize("left", ["a part", "a link"])
def test_what_a_crash_left_behind_is_not_in_the_way(place, tmp_path, left):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    if left == "a link":
        (tmp_path / "secret.new").symlink_to(elsewhere)
    else:
        (tmp_path / "secret.new").write_bytes(b"ne")
    durable.write_whole(place, "secret", b"new")
    assert (tmp_path / "secret").read_bytes() == b"new"
    assert elsewhere.read_bytes() == b"mine"
    assert names(tmp_path) == ["elsewhere", "secret"]


# Directories.


def test_each_new_directory_lasts_with_its_name(tmp_path, calls):
    before = os.umask(0)
    try:
        durable.make_directory(str(tmp_path / "a" / "b" / "c"))
    finally:
        os.umask(before)
    assert calls == ["sync .", "sync a", "sync a/b"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")} == {0o700}
    calls.clear()
    durable.make_directory(str(tmp_path / "a" / "b" / "c"))
    assert calls == []
    durable.make_directory(str(tmp_path / "a" / "d"))
    assert calls == ["sync a"]


def test_what_is_no_directory_is_not_made_one(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        durable.make_directory(str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError):
        durable.make_directory(str(tmp_path / "file" / "below"))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        durable.make_directory(str(tmp_path / "dangling"))


# The key of the session tokens.


def test_the_secret_is_made_once_whole_and_synced(place, calls, tmp_path):
    assert not secret.was_made(tmp_path)
    made = secret.read_or_make(tmp_path, place, os.urandom)
    assert calls == ["sync secret.new 32", "rename secret.new secret", "sync ."]
    assert secret.was_made(tmp_path)
    calls.clear()
    assert secret.read_or_make(tmp_path, place, os.urandom) == made
    assert calls == []


@pytest.mark.parametrize("size", [0, 31])
def test_a_secret_that_was_cut_is_made_anew(place, tmp_path, size):
    (tmp_path / "secret").write_bytes(bytes(size))
    made = secret.read_or_make(tmp_path, place, os.urandom)
    assert (tmp_path / "secret").read_bytes() == made
    assert len(made) == secret.BYTES


def test_a_secret_that_is_a_link_is_refused(place, tmp_path):
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")
    assert secret.was_made(tmp_path)
    with pytest.raises(ConfigError, match="plain file of yours"):
        secret.read_or_make(tmp_path, place, os.urandom)
    assert names(tmp_path) == ["secret"]
