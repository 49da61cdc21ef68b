"""Other users of the machine, and what the daemon shows to the network: nobody but its own user is served, by no way.

What else stands elsewhere: two daemons and stale sockets in tests/process/test_instance.py, directories of others and
open ones in tests/process/test_places.py, a peer that the kernel tells in tests/server/test_listener.py.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import cosession
from durability.loop import ScriptedDaemon
from rawclient import Ended, Json, Pack

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
CONNECT = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as error:
    sys.exit(str(error.errno))
s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"get","params":{"key":"mine"}}\\n')
print(s.recv(65536).decode())
"""

two_users = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root, with setpriv, can be two users"
)


def stranger(path: Path) -> subprocess.CompletedProcess[str]:
    """What another user comes to who connects to `path`."""
    command = [*AS_NOBODY, "/usr/bin/env", "python3", "-c", CONNECT, str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


@two_users
def test_another_user_cannot_even_connect(daemon):
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="mine", value="secret")
    daemon.home.chmod(0o755)  # the home may be open, what is in it is not
    found = stranger(daemon.socket)
    assert (found.returncode, found.stdout) == (1, "")
    assert "13" in found.stderr, "EACCES"


@two_users
def test_whoever_gets_through_to_the_socket_of_another_user_is_refused_by_the_kernel_s_word(home):
    """Root may enter every directory and connect to every socket: to a daemon of another user it is a stranger."""
    os.chown(home, NOBODY, NOBODY)
    daemon = ScriptedDaemon(home, command=[*AS_NOBODY, sys.executable, "-m", "cosessiond"])
    try:
        daemon.start()
        for encoding in (Json, Pack):
            with encoding(daemon.socket) as peer:
                answer = peer.next()
                assert answer.code == "not_allowed"
                with pytest.raises(Ended):
                    peer.next()
    finally:
        if daemon.running:
            daemon.kill()


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}


@pytest.mark.skipif(not Path("/proc/net/unix").exists(), reason="the kernel lists its sockets in /proc on Linux only")
def test_the_daemon_listens_at_its_path_and_nowhere_else(daemon):
    """No port of any protocol, and no abstract name, which every user of the machine could connect to."""
    ours = sockets_of(daemon.pid)
    table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    names = {row[7] if len(row) > 7 else "" for row in table if row[6] in ours}
    assert str(daemon.socket) in names
    assert not [name for name in names if name.startswith("@")]
    assert names <= {"", str(daemon.socket)}
    assert psutil.Process(daemon.pid).net_connections("inet") == []


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
@pytest.mark.parametrize("name", ["@cosession", "\0cosession", "run\0/d.sock"], ids=repr)
def test_no_client_speaks_to_an_abstract_name(name, home, monkeypatch):
    """Whoever has bound a name that looks like the path is not spoken to."""
    monkeypatch.chdir(home)
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind("\0cosession")
        squatter.listen()
        squatter.setblocking(False)
        with pytest.raises(cosession.CosessionError):
            cosession.connect(socket=name, spawn=False)
        with pytest.raises(BlockingIOError):
            squatter.accept()
