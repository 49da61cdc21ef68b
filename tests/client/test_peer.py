"""Who is at the other end: real sockets here, and the layouts of both systems byte for byte.

No Mac was there: what its kernel answers is written from <sys/un.h>, <sys/ucred.h> and bsd/kern/uipc_usrreq.c of xnu.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys

import pytest

from cosession import peer

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks a real kernel for struct ucred")


class Mac:
    """A connected socket of macOS, as far as it is asked. `hung_up`: the other end is closed."""

    def __init__(self, *, xucred: bytes | None = None, pid: bytes | None = None, hung_up: bool = False):
        self.xucred = xucred if xucred is not None else make_xucred()
        self.pid = pid if pid is not None else struct.pack("i", 4321)
        self.hung_up = hung_up

    def getsockopt(self, level, option, length):
        assert level == 0  # SOL_LOCAL
        if option == 1:  # LOCAL_PEERCRED: kept in the socket, also when the other end is gone
            return self.xucred[:length]
        assert option == 2  # LOCAL_PEERPID
        if self.hung_up:
            raise OSError(errno.ENOTCONN, "Socket is not connected")
        return self.pid[:length]


def make_xucred(*, version=0, uid=501, groups=2) -> bytes:
    """<sys/ucred.h>: u_int cr_version; uid_t cr_uid; short cr_ngroups; gid_t cr_groups[16]."""
    return struct.pack("@IIh16I", version, uid, groups, 20, 12, *range(14))


def test_the_layout_is_that_of_the_c_compiler():
    """The padding before cr_groups is the compiler's; with "@" Python's struct places members as it does."""
    assert struct.calcsize("@IIh16I") == 76
    assert struct.calcsize("@iII") == 12


@linux
def test_the_peer_of_a_real_connection(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        code = f"import socket, time; s = socket.socket(1); s.connect({str(tmp_path / 's')!r}); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code]) as client:
            accepted, _ = server.accept()
            with accepted:
                assert peer.credentials(accepted) == (client.pid, os.geteuid(), os.getegid())
                assert peer.uid_of(accepted) == os.geteuid()
                assert peer.pid_of(accepted) == client.pid
                client.kill()
                client.wait()
                assert peer.pid_of(accepted) == client.pid, "the kernel keeps what it noted at connect()"


def test_a_socket_without_a_peer():
    with socket.socket(socket.AF_UNIX) as lonely:
        assert peer.pid_of(lonely) == 0
        with pytest.raises(OSError, match="no peer"):
            peer.credentials(lonely)
    with socket.socket(socket.AF_INET) as other:
        assert peer.pid_of(other) == 0


def test_the_peer_on_a_mac():
    assert peer.credentials(Mac(), "darwin") == (4321, 501, 20)
    assert peer.uid_of(Mac(), "darwin") == 501
    assert peer.pid_of(Mac(), "darwin") == 4321
    assert peer.credentials(Mac(xucred=make_xucred(groups=0)), "darwin") == (4321, 501, -1)


def test_a_peer_that_hung_up_has_a_user_and_no_process_on_a_mac():
    assert peer.credentials(Mac(hung_up=True), "darwin") == (0, 501, 20)


@pytest.mark.parametrize(
    "mac",
    [
        Mac(xucred=make_xucred(version=1)),
        Mac(xucred=make_xucred(groups=17)),
        Mac(xucred=make_xucred(groups=-1)),
        Mac(xucred=make_xucred()[:-4]),
        Mac(xucred=b""),
        Mac(pid=b"\1\2"),
        Mac(pid=b""),
    ],
)
def test_what_does_not_look_as_the_headers_say_is_refused_on_a_mac(mac):
    with pytest.raises(OSError, match="the kernel") as caught:
        peer.credentials(mac, "darwin")
    assert caught.value.errno == errno.EBADMSG
    assert peer.pid_of(mac, "darwin") == 0


@pytest.mark.parametrize("raw", [b"", bytes(11), bytes(8), bytes(13)])
def test_a_linux_credential_of_another_length_is_refused(raw):
    with pytest.raises(OSError, match="struct ucred"):
        peer.decode_ucred(raw)


def test_a_linux_credential():
    assert peer.decode_ucred(struct.pack("@iII", 7, 1000, 100)) == (7, 1000, 100)
    assert peer.decode_ucred(struct.pack("@iII", 0, 65534, 65534)) == (0, 65534, 65534)  # of a foreign namespace
    with pytest.raises(OSError, match="no peer"):
        peer.decode_ucred(struct.pack("@iII", 0, 2**32 - 1, 2**32 - 1))


def test_another_system_is_not_guessed_at():
    with pytest.raises(OSError, match="freebsd14"):
        peer.credentials(Mac(), "freebsd14")
    assert peer.pid_of(Mac(), "freebsd14") == 0
