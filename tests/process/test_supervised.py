"""Under a service manager: the socket that is passed, the words that are told, who waits when a start fails."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import time

import pytest

from cosession.errors import ConfigError
from cosessiond.process import activation, journald
from cosessiond.process.activation import Activation
from cosessiond.process.lock import Holder, InstanceLock
from cosessiond.process.logs import Threshold, open_log
from cosessiond.process.sd_notify import Notices
from process.supervising import Supervisor
from rawclient import Json
from server.daemons import configure

# -- the whole life, with a daemon of its own ------------------------------------------------------------------------


def test_a_life_under_a_service_manager(home):
    with Supervisor(home, watchdog_s=0.2) as manager, Json(manager.socket) as early:
        early.post("put", key="k", value=1)
        manager.start()
        told = manager.hear("READY=1")
        assert any(line.startswith("STATUS=") and "revision 0" in line for line in told)
        assert early.next().kind == "reply", "who waited before the daemon was there is served"
        manager.hear("WATCHDOG=1", times=3)
        assert not [line for line in manager.heard if "not well" in line]

        manager.signal(signal.SIGHUP)
        told = manager.hear("READY=1")
        assert told.index("RELOADING=1") < told.index("READY=1")
        assert next(line for line in told if line.startswith("MONOTONIC_USEC=")).partition("=")[2].isdigit()

        manager.signal(signal.SIGTERM)
        manager.hear("STOPPING=1")
        assert manager.end()[0] == 0
        assert manager.socket.exists(), "the socket is the service manager's"
        with Json(manager.socket) as waiting:
            waiting.post("get", key="k")
            manager.start()
            assert waiting.next().body["entry"]["value"] == 1


def test_who_waits_is_told_why_there_will_be_no_daemon(home):
    """Where no restart helps: a configuration that cannot be used, then another daemon in the way."""
    with Supervisor(home) as manager:
        configure(home, key_bytes_max=10**9)
        with Json(manager.socket) as one, Json(manager.socket) as two:
            manager.start()
            code, said = manager.end()
            assert code == 78
            for waiting in (one, two):
                (word,) = waiting.until_ended()
                assert word.code == "config"
                assert word.body["message"] in said
        assert manager.hear("STATUS=cannot use")
        (home / "config" / "config.toml").unlink()

        (home / "state").mkdir(mode=0o700, exist_ok=True)
        lock = InstanceLock(home / "state" / "daemon.lock", time.sleep)
        lock.publish(Holder(pid=os.getpid(), version="9"))
        with Json(manager.socket) as waiting:
            manager.start()
            assert manager.end()[0] == 75
            assert [word.code for word in waiting.until_ended()] == ["already_running"]
        lock.release()


# -- the socket that is passed ---------------------------------------------------------------------------------------


@pytest.fixture
def listening(home):
    """A socket as the unit makes it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        before = os.umask(0o177)
        sock.bind(str(home / "d.sock"))
        os.umask(before)
        sock.listen(1)
        yield sock


def passed(monkeypatch, *descriptors):
    """An activation with these descriptors, which are its own from here on."""
    monkeypatch.setattr(activation, "_passed_by_systemd", lambda _: [os.dup(each) for each in descriptors])
    return Activation({})


def test_the_socket_of_this_place_is_taken(listening, home, monkeypatch):
    taken = passed(monkeypatch, listening.fileno()).listening_at(home / "d.sock")
    assert taken is not None
    assert not taken.get_inheritable()
    taken.close()


@pytest.mark.parametrize("env", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}])
def test_what_is_meant_for_another_process_is_left_alone(env, home):
    assert Activation(dict(env)).listening_at(home / "d.sock") is None


def test_the_environment_no_longer_says_so():
    env = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "PATH": "/bin"}
    Activation(env)
    assert env == {"PATH": "/bin"}


WRONG = {
    "another path": (lambda home: home / "elsewhere", "listens on"),
    "gone": (lambda home: (home / "d.sock").unlink() or home / "d.sock", "has gone"),
    "open to others": (lambda home: (home / "d.sock").chmod(0o666) or home / "d.sock", "owner alone"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_socket_of_another_place_is_refused(how, listening, home, monkeypatch):
    prepare, why = WRONG[how]
    path = prepare(home)
    taken = passed(monkeypatch, listening.fileno())
    with pytest.raises(ConfigError, match=why) as refused:
        taken.listening_at(path)
    assert "; run: cosession service" in refused.value.message
    taken._sockets[0].close()


def test_what_is_no_listening_socket_is_refused(home, monkeypatch):
    read, write = os.pipe()
    with pytest.raises(ConfigError, match="no socket"):
        passed(monkeypatch, read)
    os.close(write)
    for kind, why in ((socket.SOCK_STREAM, "does not listen"), (socket.SOCK_DGRAM, "no Unix stream")):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            taken = passed(monkeypatch, sock.fileno())
            with pytest.raises(ConfigError, match=why):
                taken.listening_at(home / "d.sock")
            taken._sockets[0].close()


def test_two_sockets_are_refused(listening, home, monkeypatch):
    taken = passed(monkeypatch, listening.fileno(), listening.fileno())
    with pytest.raises(ConfigError, match="2 sockets"):
        taken.listening_at(home / "d.sock")
    for sock in taken._sockets:
        sock.close()


class Launchd:
    """`launch_activate_socket` by its manual: an error number, or an array that the caller frees."""

    def __init__(self, code: int, *descriptors: int) -> None:
        self.code = code
        self.array = (ctypes.c_int * max(1, len(descriptors)))(*descriptors)
        self.count = len(descriptors)
        self.asked: list[bytes] = []
        self.freed = 0

    def launch_activate_socket(self, name, found, count) -> int:
        self.asked.append(name)
        if not self.code:
            found._obj.contents = ctypes.cast(self.array, ctypes.POINTER(ctypes.c_int)).contents
            count._obj.value = self.count
        return self.code

    def free(self, _found) -> None:
        self.freed += 1


def test_launchd_passes_what_the_agent_names():
    launchd = Launchd(0, 7, 9)
    assert activation.passed_by_launchd("Listener", launchd) == [7, 9]
    assert (launchd.asked, launchd.freed) == ([b"Listener"], 1)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESRCH])
def test_launchd_has_nothing_for_us(code):
    assert activation.passed_by_launchd("Listener", Launchd(code)) == []
    assert activation.passed_by_launchd("Listener", object()) == [], "a system without launchd"


def test_launchd_asked_twice():
    with pytest.raises(ConfigError, match="cannot take over the socket of launchd"):
        activation.passed_by_launchd("Listener", Launchd(errno.EALREADY))


# -- the words -------------------------------------------------------------------------------------------------------


def test_nobody_to_tell():
    notices = Notices({})
    notices.ready("x")
    notices.alive()
    assert not notices.wanted
    assert notices.watchdog_s == 0.0


@pytest.mark.parametrize(
    ("env", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "x"}, 0.0),
    ],
)
def test_the_service_watchdog_of_this_process_only(env, watchdog_s):
    env["NOTIFY_SOCKET"] = "/nowhere"
    assert Notices(env).watchdog_s == watchdog_s
    assert env == {}, "no child may speak for us"


def test_a_name_without_a_file():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(f"\0cosession-test-{os.getpid()}")
        Notices({"NOTIFY_SOCKET": f"@cosession-test-{os.getpid()}"}).status("two\nlines")
        assert hears.recv(100) == b"STATUS=two lines"


def test_a_service_manager_that_is_gone_or_deaf_holds_up_nothing(home):
    Notices({"NOTIFY_SOCKET": str(home / "gone")}).ready("x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(home / "deaf"))
        notices = Notices({"NOTIFY_SOCKET": str(home / "deaf")})
        for _ in range(10_000):  # far more than its queue takes
            notices.alive()


# -- the journal -----------------------------------------------------------------------------------------------------


def fields(datagram: bytes) -> dict[str, str]:
    """A datagram of the native protocol, read as journald reads it."""
    found = {}
    while datagram:
        head, _, datagram = datagram.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        assert name.isascii()
        assert name.replace(b"_", b"").isalnum()
        assert name == name.upper()
        assert len(name) <= 64
        found[name.decode()] = value.decode()
    return found


@pytest.fixture
def journal(home, monkeypatch):
    """Standard error goes to a journald that is this test's."""
    monkeypatch.setattr(journald, "is_journal", lambda: True)
    log = journald.Journal(str(home / "journal"))
    monkeypatch.setattr(journald, "Journal", lambda: log)
    with contextlib.closing(log._socket), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(home / "journal"))
        hears.settimeout(5)
        yield lambda: fields(hears.recv(1 << 20))


def test_an_event_goes_to_the_journal_in_fields(journal):
    open_log(Threshold("info"), file=None).warning("near a limit", limit="connections", used=7, **{"odd näme": "x"})
    found = journal()
    assert found["MESSAGE"] == "near a limit  limit=connections  used=7  odd näme=x"
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("4", "cosessiond")
    assert (found["COSESSION_EVENT"], found["COSESSION_USED"]) == ("near a limit", "7")
    assert found["COSESSION_ODD_N_ME"] == "x"
    whole = json.loads(found[journald.WHOLE])
    assert (whole["event"], whole["used"], whole["level"], whole["pid"]) == ("near a limit", 7, "warning", os.getpid())


def test_a_traceback_goes_to_the_journal_whole(journal):
    with pytest.raises(ValueError, match="forged") as caught:
        int("forged\nPRIORITY=0")
    open_log(Threshold("info"), file=None).error("a bug", exc_info=caught.value)
    found = journal()
    assert found["PRIORITY"] == "3"
    assert found["MESSAGE"].startswith("a bug\nTraceback")
    assert found["MESSAGE"].endswith("'forged\\nPRIORITY=0'")


def test_a_journald_that_is_away_costs_the_line_and_nothing_else(home):
    log = journald.Journal(str(home / "journal"))
    with contextlib.closing(log._socket), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        log.msg(b"MESSAGE=nobody is there\n")
        deaf.bind(str(home / "journal"))
        line = b"MESSAGE=%b\n" % (b"x" * 5_000)
        for _ in range(2_000):
            log.msg(line)


def test_where_standard_error_goes_is_asked_of_the_kernel(tmp_path):
    with (tmp_path / "log").open("w") as file:
        found = os.fstat(file.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        assert journald.is_journal(file.fileno(), {"JOURNAL_STREAM": stream})
        assert not journald.is_journal(file.fileno(), {"JOURNAL_STREAM": f"{stream}0"})
        assert not journald.is_journal(file.fileno(), {})
    assert not journald.is_journal(9_999, {"JOURNAL_STREAM": stream}), "standard error may be closed"
