"""Who a process is, with real processes: parents, zombies, reused pids, namespaces, and peers of real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from cosession.errors import NotAllowed
from cosession.model import Instance
from cosessiond.sessions import identity, procs
from cosessiond.sessions.identity import ProcessRef
from sessions.processes import instance_of, is_zombie

linux = pytest.mark.skipif(not procs.LINUX, reason="Linux only")


def until(condition, timeout_s=10.0):
    """Wait for something another process does; returns what `condition` did."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {timeout_s} s")


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_the_start_time_of_a_process_stays_and_ends_with_it(sleeper):
    started = identity.start_time(sleeper.pid)
    assert started == identity.start_time(sleeper.pid) > 0
    sleeper.kill()
    sleeper.wait()
    assert identity.start_time(sleeper.pid) is None
    assert instance_of(sleeper.pid) is None
    assert identity.ancestry(sleeper.pid) == ()
    assert identity.parent(sleeper.pid) is None


def test_later_processes_start_later(sleeper):
    assert identity.start_time(os.getpid()) < identity.start_time(sleeper.pid)


@linux
def test_the_start_time_is_ticks_since_boot_and_not_wall_clock(sleeper):
    ticks = os.sysconf("SC_CLK_TCK")
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert identity.start_time(sleeper.pid) / ticks == pytest.approx(since_boot, abs=5)


def test_an_instance_names_boot_pid_and_start(sleeper):
    found = instance_of(sleeper.pid)
    assert found == Instance(
        boot_id=identity.boot_id(), pid=sleeper.pid, start_time=identity.start_time(sleeper.pid), judgeable=True
    )
    assert len(identity.boot_id()) == 36


def test_a_zombie_is_over(sleeper):
    assert not is_zombie(sleeper.pid)
    sleeper.kill()
    until(lambda: is_zombie(sleeper.pid))
    assert instance_of(sleeper.pid) is None
    sleeper.wait()
    assert not is_zombie(sleeper.pid)


@linux
def test_a_process_whose_first_thread_has_left_is_not_over():
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            until(lambda: b") Z " in Path(f"/proc/{process.pid}/stat").read_bytes())
            assert not is_zombie(process.pid)
            assert instance_of(process.pid) is not None
        finally:
            process.kill()


@pytest.mark.parametrize("pid", [0, -1, -(2**31), 2**31, 2**64, 4_194_305])
def test_numbers_that_are_no_process(pid):
    assert identity.start_time(pid) is None
    assert identity.parent(pid) is None
    assert identity.owner(pid) is None
    assert identity.ancestry(pid) == ()
    assert not identity.same_pid_namespace(pid)


def test_the_parent_and_the_ancestry_of_a_grandchild():
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        grandchild = int(child.stdout.readline())
        try:
            assert identity.parent(grandchild) == child.pid
            chain = identity.ancestry(grandchild)
            assert [ref.pid for ref in chain[:3]] == [grandchild, child.pid, os.getpid()]
            assert all(ref == ProcessRef(ref.pid, identity.start_time(ref.pid)) for ref in chain)
            assert identity.ancestry(grandchild, 2) == chain[:2]
            assert [ref.pid for ref in chain[3:]] == [parent.pid for parent in psutil.Process().parents()]
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_an_ancestry_stops_where_the_parent_changed_while_looking(monkeypatch):
    """Pid 30 is read as the child of 20; before that is certain 20 dies, and its pid is another process."""
    answers = {
        30: iter([procs.ProcessFacts(30, 20, 300, zombie=False), procs.ProcessFacts(30, 1, 300, zombie=False)]),
        20: iter([procs.ProcessFacts(20, 1, 999, zombie=False)]),
    }
    monkeypatch.setattr(identity, "facts", lambda pid: next(answers[pid]))
    assert identity.ancestry(30) == (ProcessRef(30, 300),)


def test_the_ancestry_of_a_peer_ends_with_it(sleeper):
    """A peer may send and die; what it sent is carried out later, when its pid may be that of somebody's session."""
    started = identity.start_time(sleeper.pid)
    peer = identity.Peer(pid=sleeper.pid, uid=0, gid=0, start_time=started)
    assert identity.ancestry_of(peer) == identity.ancestry(sleeper.pid)
    assert identity.ancestry_of(replace(peer, start_time=started - 1)) == (), "another process has its pid now"
    assert identity.ancestry_of(replace(peer, start_time=0)) == ()
    assert identity.ancestry_of(replace(peer, pid=0, start_time=0)) == ()
    sleeper.kill()
    sleeper.wait()
    assert identity.ancestry_of(peer) == ()


@linux
@pytest.mark.parametrize("name", ["a b", "a) S 1 (b", "(((", ") Z 9 9 9", "R"])
def test_a_command_name_cannot_forge_the_facts(tmp_path, name):
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        try:
            until(lambda: Path(f"/proc/{process.pid}/comm").read_text().rstrip("\n") == name)
            found = procs.facts(process.pid)
            assert (found.parent, found.zombie) == (os.getpid(), False)
            assert found.start_time == identity.start_time(process.pid)
        finally:
            process.kill()


@linux
def test_a_process_that_proc_does_not_show_cannot_be_judged_unless_it_is_gone(monkeypatch, sleeper):
    def hidden(_path):
        raise FileNotFoundError

    monkeypatch.setattr(procs, "_read", hidden)  # as with hidepid=2, or without /proc
    with pytest.raises(procs.CannotJudge, match="exists"):
        procs.facts(sleeper.pid)
    assert identity.start_time(sleeper.pid) is None
    sleeper.kill()
    sleeper.wait()
    assert procs.facts(sleeper.pid) is None


@linux
@pytest.mark.parametrize(
    "text", [b"", b"7", b"7 (x)", b"7 (x) S 1", b"7 (x) S one " + b"0 " * 20, b"7 (x) S 1 " + b"x " * 20]
)
def test_facts_that_do_not_look_as_the_manual_says_are_not_guessed_at(monkeypatch, sleeper, text):
    monkeypatch.setattr(procs, "_read", lambda _path: text)
    with pytest.raises(procs.CannotJudge, match="is not as"):
        procs.facts(sleeper.pid)
    assert identity.start_time(sleeper.pid) is None


@linux
def test_a_process_that_leaves_its_parent_is_no_part_of_it_any_more():
    """Twice forked, as a daemon does it: its ancestors are not those it came from."""
    code = (
        "import os, sys, time\n"
        "if os.fork():\n"
        "    os._exit(0)\n"
        "os.setsid()\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as middle:
        left = int(middle.stdout.readline())
        middle.wait()
        try:
            pids = [ref.pid for ref in identity.ancestry(left)]
            assert pids[0] == left
            assert middle.pid not in pids
            assert os.getpid() not in pids[:2]
        finally:
            os.kill(left, signal.SIGKILL)


def test_the_portable_floor_says_the_same(sleeper):
    direct, floor = procs.facts(sleeper.pid), procs.facts_psutil(sleeper.pid)
    assert (floor.pid, floor.parent, floor.zombie) == (direct.pid, direct.parent, direct.zombie)
    assert floor == procs.facts_psutil(sleeper.pid)
    assert procs.owner_psutil(sleeper.pid) == identity.owner(sleeper.pid) == os.getuid()
    sleeper.kill()
    until(lambda: is_zombie(sleeper.pid))
    assert procs.facts_psutil(sleeper.pid).zombie
    sleeper.wait()
    assert procs.facts_psutil(sleeper.pid) is None
    assert procs.owner_psutil(sleeper.pid) is None


def test_psutil_is_not_imported_where_proc_is_read():
    code = (
        "import sys; from cosessiond.sessions import identity; identity.start_time(1);"
        "print([m for m in ('psutil', 'ctypes') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.strip() == ("[]" if procs.LINUX else "['psutil', 'ctypes']")


@linux
def test_pid_namespaces(sleeper):
    assert identity.same_pid_namespace(sleeper.pid)
    try:
        process = subprocess.Popen(["unshare", "--pid", "--fork", "sleep", "60"], stderr=subprocess.PIPE)
    except FileNotFoundError:
        pytest.skip("no unshare")
    with process:
        try:
            inner = until(lambda: process.poll() is not None or psutil.Process(process.pid).children())
            if inner is True:
                pytest.skip(f"cannot make a pid namespace: {process.stderr.read().decode()}")
            assert identity.same_pid_namespace(process.pid)
            assert not identity.same_pid_namespace(inner[0].pid)
        finally:
            for child in psutil.Process(process.pid).children() if process.poll() is None else []:
                child.kill()
            process.kill()


@linux
def test_a_namespace_that_may_not_be_seen_is_told_from_the_status(monkeypatch, sleeper):
    def forbidden(*_args, **_kwargs):
        raise PermissionError

    monkeypatch.setattr(Path, "stat", forbidden)
    assert identity.same_pid_namespace(sleeper.pid)
    monkeypatch.setattr(procs, "_read", lambda _path: b"Name:\tx\nNSpid:\t4321\t7\n")
    assert not identity.same_pid_namespace(sleeper.pid)


# Peers.


@pytest.fixture
def listening(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield server


def test_the_peer_of_a_socketpair_is_this_process():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = identity.peer_of(ours)
        assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
        assert peer.start_time == identity.start_time(os.getpid())


@pytest.mark.parametrize("kernel_gives_pidfd", [True, False])
def test_the_peer_of_a_connection_is_the_process_that_connected(listening, monkeypatch, kernel_gives_pidfd):
    if not kernel_gives_pidfd:
        monkeypatch.setattr(identity, "_SO_PEERPIDFD", 32_000)  # what a kernel before 6.5 says to 77
    connect = f"s = socket.socket(socket.AF_UNIX); s.connect({listening.getsockname()!r})"
    code = f"import socket, time; {connect}; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code]) as client:
        accepted, _ = listening.accept()
        with accepted:
            peer = identity.peer_of(accepted)
            assert peer.pid == client.pid
            assert peer.start_time == identity.start_time(client.pid)
            client.kill()
            client.wait()
            assert identity.peer_of(accepted).start_time == 0


def test_asking_who_is_there_keeps_no_descriptor():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(20):
            identity.peer_of(ours)
        assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_forked_child_is_a_peer_of_its_own(listening):
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:  # connects by itself, then waits to be killed
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(listening.getsockname())
            os.read(ready, 1)
        os._exit(0)
    try:
        accepted, _ = listening.accept()
        with accepted:
            peer = identity.peer_of(accepted)
            assert peer.pid == child
            assert [ref.pid for ref in identity.ancestry(peer.pid)[:2]] == [child, os.getpid()]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(go)


def test_a_peer_that_is_over_has_no_start_time(listening):
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({listening.getsockname()!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as client:
        client.wait()
        accepted, _ = listening.accept()
        with accepted:
            peer = identity.peer_of(accepted)
            assert (peer.pid, peer.start_time) == (client.pid, 0)


def test_a_socket_without_a_peer_names_nobody():
    with socket.socket(socket.AF_UNIX) as lonely, pytest.raises(NotAllowed, match="cannot tell who is connected"):
        identity.peer_of(lonely)


SERVE = (
    "import socket, sys; from cosession.peer import credentials; from cosessiond.sessions.identity import peer_of\n"
    "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('up', flush=True)\n"
    "a, _ = s.accept(); p = peer_of(a); print(p.pid, p.uid, p.start_time, flush=True)\n"
)
CONNECT = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); time.sleep(60)"
INSIDE = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.fixture
def inside():
    """How to run a command in a pid namespace below ours."""
    try:
        done = subprocess.run([*INSIDE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if done.returncode:
        pytest.skip(f"cannot make a pid namespace: {done.stderr}")
    return INSIDE


@linux
def test_a_peer_in_a_namespace_below_is_seen_by_our_numbers_and_is_not_of_ours(listening, inside):
    with subprocess.Popen([*inside, sys.executable, "-c", CONNECT, listening.getsockname()]) as outer:
        accepted, _ = listening.accept()
        with accepted:
            peer = identity.peer_of(accepted)
            assert peer.pid == psutil.Process(outer.pid).children()[0].pid
            assert peer.start_time == identity.start_time(peer.pid)
            assert not identity.same_pid_namespace(peer.pid)
        outer.kill()


@linux
def test_a_peer_in_a_namespace_above_has_no_number(tmp_path, inside):
    """A daemon in a container, called from outside: the kernel gives the user, and 0 for the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    path = str(tmp_path / "s")
    command = [*inside, sys.executable, "-c", SERVE, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout.readline() == "up\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert server.stdout.readline() == f"0 {os.geteuid()} 0\n"


class Answering:
    """A socket whose peer had the pid that this process has now; the kernel answers a question for its pidfd so."""

    def __init__(self, code):
        self.code = code

    def getsockopt(self, _level, _option, *_length):
        raise OSError(self.code, os.strerror(self.code))


@linux
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ESRCH, errno.ENODATA])
def test_a_peer_that_was_collected_is_not_taken_for_the_next_process_with_its_pid(code):
    assert identity._started_linux(Answering(code), os.getpid()) == 0


@linux
@pytest.mark.parametrize("code", [errno.ENOPROTOOPT, errno.EMFILE, errno.EPERM])
def test_where_the_kernel_gives_no_pidfd_the_pid_is_looked_at(code, sleeper):
    assert identity._started_linux(Answering(code), os.getpid()) == identity.start_time(os.getpid())
    sleeper.kill()
    sleeper.wait()
    assert identity._started_linux(Answering(code), sleeper.pid) == 0


class MacSocket:
    """A connected socket of macOS, whose other end is used by these processes, one after the other (None: closed)."""

    def __init__(self, *pids):
        self.pids = iter(pids)

    def getsockopt(self, _level, option, _length):
        if option == 1:  # LOCAL_PEERCRED
            return struct.pack("@IIh16I", 0, 501, 1, *[20] * 16)
        pid = next(self.pids)
        if pid is None:
            raise OSError(errno.ENOTCONN, "Socket is not connected")
        return struct.pack("@i", pid)


def test_a_peer_on_a_mac_is_asked_for_again_after_the_look():
    me = os.getpid()
    assert identity.started_elsewhere(MacSocket(me), me, "darwin") == identity.start_time(me)
    assert identity.started_elsewhere(MacSocket(None), me, "darwin") == 0, "it is over: the pid may be another's"
    assert identity.started_elsewhere(MacSocket(me + 1), me, "darwin") == 0, "another process has the socket now"
    assert identity.started_elsewhere(MacSocket(2**30), 2**30, "darwin") == 0


class MacProcess:
    """psutil.Process on a Mac, as far as `procs` goes by it. `raw`: p_starttime of the kernel."""

    raw = 1_790_000_000.123_457

    def __init__(self, pid, *, monotonic=True, status="running"):
        self.pid = pid
        self._status = status
        self._proc = self
        self._knows_monotonic = monotonic
        self.reads = 0

    @contextlib.contextmanager
    def oneshot(self):
        self.reads += 1
        yield

    def create_time(self, **options):
        if options and not self._knows_monotonic:
            raise TypeError("before 7.1")
        return self.raw if options or not self._knows_monotonic else self.raw - 3600  # the clock was set by an hour

    def status(self):
        return self._status

    def ppid(self):
        return 1


@pytest.mark.parametrize("monotonic", [True, False])
def test_the_start_time_on_a_mac_is_the_one_the_kernel_keeps(monkeypatch, monotonic):
    process = MacProcess(7, monotonic=monotonic)
    monkeypatch.setattr(psutil, "Process", lambda _pid: process)
    assert procs.facts_psutil(7) == procs.ProcessFacts(7, 1, 1_790_000_000_123_457, zombie=False)
    assert process.reads == 1
    monkeypatch.setattr(psutil, "Process", lambda pid: MacProcess(pid, status=psutil.STATUS_ZOMBIE))
    assert procs.facts_psutil(7).zombie


class Sysctl:
    """The C library of a Mac: one name is known to sysctlbyname."""

    def __init__(self, value):
        self.value = value

    def sysctlbyname(self, name, buffer, size, new, new_size):
        assert (new, new_size.value) == (None, 0)
        if name != b"kern.bootsessionuuid" or self.value is None:
            return -1
        room = size._obj
        assert room.value >= len(self.value) + 1
        buffer.value = self.value
        room.value = len(self.value) + 1
        return 0


UUID = "0C8C1D4E-9A52-4F0B-8A6D-2F1DE5B1A7C3"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(UUID.encode(), UUID), (UUID[:-1].encode(), ""), (b"", ""), (b"\xff" * 36, ""), (None, "")],
)
def test_the_boot_id_of_a_mac(value, shown):
    assert procs.sysctl_uuid("kern.bootsessionuuid", Sysctl(value)) == shown
    assert procs.sysctl_uuid("kern.other", Sysctl(value)) == ""


def test_a_c_library_without_sysctlbyname_has_no_boot_id():
    assert procs.sysctl_uuid("kern.bootsessionuuid", object()) == ""
