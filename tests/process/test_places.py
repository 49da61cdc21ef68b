"""Where the daemon may live: its directories, the path of its socket, the file system. What is wrong is refused with
the command that mends it, and nothing is touched.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import struct
from pathlib import Path

import pytest

from cosession import paths
from cosession.config import Config
from cosession.errors import ConfigError
from cosessiond import app
from cosessiond.process import directories, filesystems
from cosessiond.process.activation import Activation
from cosessiond.process.configuration import Configuration
from cosessiond.process.filesystems import FileSystem
from cosessiond.process.sd_notify import Notices
from harness import Daemon
from process.starting import EXIT_CONFIG, environment, filled, refusal, serves, tree
from rawclient import Pack

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")


def private(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True)
    return path


# -- directories -----------------------------------------------------------------------------------------------------


def test_what_the_daemon_makes_is_for_its_user_alone(home):
    before = os.umask(0)  # the most careless of all callers
    try:
        with Daemon(home) as daemon, Pack(daemon.socket) as peer:
            peer.reply("put", key="a", value=1)
            modes = {str(path.relative_to(home)): stat.S_IMODE(path.lstat().st_mode) for path in home.rglob("*")}
    finally:
        os.umask(before)
    assert modes.pop("stderr.log")  # the test's own
    assert {modes.pop(name) for name in ("state", "run", "spool", "state/backups")} == {0o700}
    assert set(modes.values()) == {0o600}, modes
    assert {"run/d.sock", "state/store.db", "state/daemon.lock", "state/secret"} <= modes.keys()


def test_a_directory_that_lets_others_in_is_refused_with_the_command_that_mends_it(home):
    filled(home)
    for name, mode in (("state", 0o755), ("state", 0o701), ("run", 0o755), ("run", 0o770)):
        (home / name).chmod(mode)
        before = tree(home)
        said = refusal(home, code=EXIT_CONFIG)
        assert f"chmod 700 {home / name}" in said
        assert f"{mode:04o}" in said
        assert tree(home) == before
        (home / name).chmod(0o700)
    serves(home, keys=3)


def test_the_home_above_them_may_be_readable(home):
    home.chmod(0o755)
    serves(home)


@pytest.mark.parametrize("name", ["state", "run"])
def test_a_directory_that_is_a_link_is_refused(home, name):
    elsewhere = private(home / "elsewhere")
    (home / name).symlink_to(elsewhere)
    before = tree(home, ignored=["state", "run"])
    assert str(home / name) in refusal(home, code=EXIT_CONFIG)
    assert tree(home, ignored=["state", "run"]) == before
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["state", "run"])
def test_a_file_where_a_directory_should_be_is_refused(home, name):
    (home / name).write_text("mine")
    assert str(home / name) in refusal(home, code=EXIT_CONFIG)
    assert (home / name).read_text() == "mine"


@needs_root
@pytest.mark.parametrize("name", ["state", "run"])
def test_a_directory_of_somebody_else_is_refused(home, name):
    os.chown(private(home / name), 65534, 65534)
    before = tree(home, ignored=["state", "run"] if name == "run" else [])
    said = refusal(home, code=EXIT_CONFIG)
    assert "belongs to uid 65534" in said
    assert str(home / name) in said
    assert tree(home, ignored=["state", "run"] if name == "run" else []) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_refused(home):
    private(home / "state").chmod(0o500)
    refusal(home, code=EXIT_CONFIG)


def test_names_that_terminals_do_not_like_are_served_and_shown_escaped(home):
    odd = private(home / "a b\n\x1b[31m\u202e")
    with Daemon(odd) as daemon:
        with Pack(daemon.socket) as peer:
            assert peer.reply("ping")
        log = daemon.stderr()
    assert "\x1b" not in log
    assert all(line.startswith("{") and line.endswith("}") for line in log.splitlines()), "one line for each event"
    (odd / "state").chmod(0o755)
    assert "\\x1b[31m" in refusal(odd, code=EXIT_CONFIG)


# -- the socket path -------------------------------------------------------------------------------------------------

LIMIT = paths.SOCKET_PATH_BYTES_MAX


@pytest.fixture
def long_home(home):
    """A home whose socket path is too long, and the short place that stands for it, removed afterwards."""
    deep = private(home / ("x" * 120))
    env = environment(deep)
    short = Path(paths.socket_path(env))
    assert not str(short).startswith(str(deep))
    yield deep, short
    if short.parent.name.startswith("cosession-"):
        if short.parent.is_symlink():
            short.parent.unlink()
        else:
            shutil.rmtree(short.parent, ignore_errors=True)


def test_a_home_too_deep_for_a_socket_is_served_at_a_short_place(long_home):
    deep, short = long_home
    daemon = Daemon(deep)
    daemon.socket = short
    with daemon:
        assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(short.stat().st_mode) == 0o600
        with Pack(short) as peer:
            assert peer.reply("status")["socket"] == str(short)
            assert peer.reply("status")["state_directory"] == str(deep / "state")
        assert str(short) in (deep / "state" / "daemon.lock").read_text()
    assert not short.exists()


@pytest.mark.parametrize("squatter", ["open to others", "a link", "a file"])
def test_a_short_place_that_somebody_has_prepared_is_refused(long_home, squatter):
    deep, short = long_home
    if squatter == "open to others":
        short.parent.mkdir(mode=0o700)
        short.parent.chmod(0o777)
    elif squatter == "a link":
        short.parent.symlink_to(private(deep / "mine"))
    else:
        short.parent.write_text("")
    before = tree(deep)
    said = refusal(deep, code=EXIT_CONFIG)
    assert str(short.parent) in said
    assert str(LIMIT) in said
    assert "COSESSION_SOCKET" in said
    assert tree(deep) == before
    if squatter == "a file":
        short.parent.unlink()


def test_a_socket_path_chosen_too_long_is_refused_with_its_length_and_the_limit(home):
    chosen = f"{home}/{'s' * (LIMIT + 1 - len(str(home)) - 1)}"
    before = tree(home)
    said = refusal(home, code=EXIT_CONFIG, env={**environment(home), "COSESSION_SOCKET": chosen})
    assert chosen in said
    assert f"{LIMIT + 1} bytes" in said
    assert f"limit is {LIMIT}" in said
    assert tree(home) == before


def test_a_socket_path_of_exactly_the_limit_is_served(home):
    place = private(home / "s")
    chosen = place / ("d" * (LIMIT - len(str(place)) - 1))
    assert len(os.fsencode(chosen)) == LIMIT
    daemon = Daemon(home, env={})
    daemon.env["COSESSION_SOCKET"] = str(chosen)
    daemon.socket = chosen
    with daemon, Pack(chosen) as peer:
        assert peer.reply("ping")


# -- network file systems --------------------------------------------------------------------------------------------

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 22 0:31 / /mnt/nfs rw,relatime shared:1 - nfs4 server:/export rw,vers=4.2
37 22 0:32 / /mnt/a\\040b rw - fuse.sshfs me@host: rw
38 22 0:33 /sub /mnt/bind rw master:5 propagate_from:2 - cifs //host/share rw
39 22 0:34 / /mnt/tmp rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("major", "minor", "kind"),
    [(254, 0, "ext4"), (0, 31, "nfs4"), (0, 32, "fuse.sshfs"), (0, 33, "cifs"), (0, 34, "tmpfs"), (0, 99, "")],
)
def test_the_file_system_of_a_device_is_read_from_mountinfo(home, major, minor, kind):
    (home / "mountinfo").write_text(MOUNTINFO)
    assert filesystems.by_mountinfo(os.makedev(major, minor), home / "mountinfo") == FileSystem(kind)


def test_a_mountinfo_of_any_shape_is_survived(home):
    (home / "mountinfo").write_bytes(b"\n\xff\xfe garbage\n1\n1 2\n1 2 0:31\n1 2 0:31 - \n - nfs\n")
    assert filesystems.by_mountinfo(os.makedev(0, 77), home / "mountinfo") == FileSystem("")
    assert filesystems.by_mountinfo(home.stat().st_dev, home / "absent") == FileSystem("")


class MacLibrary:
    """The C library of a Mac: fstatfs(2) with `struct statfs` of <sys/mount.h>, packed as its compiler does it."""

    def __init__(self, kind: bytes, flags: int, *, fails: bool = False) -> None:
        self.asked = []
        numbers = [4096, 1 << 20, 10, 9, 8, 7, 6, 1, 2, 501, 26, flags, 0]
        self.statfs = struct.pack("@II5Q2iIIII16s1024s1024sI7I", *numbers, kind, b"/Volumes/x", b"//h/x", *[0] * 8)
        self.fails = fails

    def fstatfs(self, descriptor, buffer):
        self.asked.append(descriptor.value)
        buffer[: len(self.statfs)] = self.statfs
        return -1 if self.fails else 0


MNT_LOCAL = 0x1000


@pytest.mark.parametrize(
    ("kind", "flags", "network"),
    [
        (b"apfs", 0x0480_9000, False),
        (b"hfs", MNT_LOCAL, False),
        (b"smbfs", 0, True),
        (b"nfs", 0, True),
        (b"afpfs", 0, True),
        (b"webdav", MNT_LOCAL, True),  # by its name
        (b"macfuse", 0, True),  # by what the system says of it
        (b"macfuse", MNT_LOCAL, False),
        (b"sixteen bytes ok", MNT_LOCAL, False),
    ],
)
def test_the_file_system_on_a_mac_is_read_from_fstatfs(kind, flags, network):
    library = MacLibrary(kind, flags)
    assert len(library.statfs) == 2168
    found = filesystems.by_fstatfs(5, library)
    assert library.asked == [5]
    assert found == FileSystem(kind.decode(), local=bool(flags & MNT_LOCAL))
    assert found.is_network is network


def test_on_an_intel_mac_the_function_has_a_name_of_its_own():
    """Under the plain name there is one with a shorter structure."""
    wide, plain = MacLibrary(b"apfs", MNT_LOCAL), MacLibrary(b"\0" * 16, 0)
    setattr(plain, "fstatfs$INODE64", wide.fstatfs)
    assert filesystems.by_fstatfs(5, plain) == FileSystem("apfs")


@pytest.mark.parametrize("library", [MacLibrary(b"smbfs", 0, fails=True), MacLibrary(b"", 0), object()])
def test_a_file_system_that_cannot_be_told_on_a_mac_is_taken(library):
    assert not filesystems.by_fstatfs(5, library).is_network


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph"])
def test_a_network_file_system_is_refused_by_name(home, monkeypatch, kind):
    monkeypatch.setattr(directories, "file_system_of", lambda _: FileSystem(kind))
    descriptor = os.open(home, os.O_RDONLY)
    try:
        with pytest.raises(ConfigError, match=f"{kind} is a network file system.*; set COSESSION_HOME") as caught:
            directories.refuse_network_file_system(home, descriptor)
    finally:
        os.close(descriptor)
    assert caught.value.exit_code == EXIT_CONFIG


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "apfs", "overlay", "fuse.bindfs", ""])
def test_local_and_unknown_file_systems_are_taken(home, monkeypatch, kind):
    monkeypatch.setattr(directories, "file_system_of", lambda _: FileSystem(kind))
    descriptor = os.open(home, os.O_RDONLY)
    try:
        directories.refuse_network_file_system(home, descriptor)
    finally:
        os.close(descriptor)


def test_a_daemon_on_a_network_file_system_refuses_before_it_makes_a_file(home, monkeypatch):
    """The whole of `serve`, in this process, with a file system that says it is one."""
    monkeypatch.setenv("COSESSION_HOME", str(home))
    monkeypatch.setattr(directories, "file_system_of", lambda _: FileSystem("nfs4"))
    passed = {"activation": Activation({}), "notices": Notices({})}
    with pytest.raises(ConfigError, match="network file system"):
        asyncio.run(app.serve(Configuration(Config()), None, lambda: None, **passed))
    assert [str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()] == []
