"""What it costs the daemon to be looked at: the rate of 16 clients beside a tail, a tail that is never read, tracing
and the log level `debug`, each over the rate beside nobody, turn by turn in the same daemon.

Rule: whoever looks is a process of its own, as it would be.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from bench.children import Children, run_all
from durability.loop import ScriptedDaemon
from rawclient import Pack

CLIENTS: Final = 16
TURNS: Final = 3
COMMAND: Final = (sys.executable, "-P", "-c", "from cosession.cli.main import main; raise SystemExit(main())")
ATTACHED_S: Final = 30.0


@contextlib.contextmanager
def tailed(daemon: ScriptedDaemon) -> Iterator[None]:
    """`cosession debug tail --json`, printed into the void."""
    command = [*COMMAND, "debug", "tail", "--json"]
    with subprocess.Popen(command, env=daemon.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with Pack(daemon.socket) as peer:
                until_s = time.monotonic() + ATTACHED_S
                while not any(each["state"] == "tailing" for each in peer.reply("debug.clients")["clients"]):
                    assert time.monotonic() < until_s, "the tail does not come"
                    time.sleep(0.01)
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def asked_once(daemon: ScriptedDaemon, method: str, **params: object) -> Iterator[None]:
    """A connection that asks for something once, and is there."""
    with Pack(daemon.socket) as peer:
        peer.reply(method, **params)
        yield


#: Who looks, and how; the first is nobody.
LOOKS: Final = {
    "nobody": lambda _: contextlib.nullcontext(),
    "a tail": tailed,
    "a tail that never reads": lambda daemon: asked_once(daemon, "debug.tail", values=True),
    "a trace of everything": lambda daemon: asked_once(daemon, "debug.trace", on=True, for_s=600.0),
    "the log level debug": lambda daemon: asked_once(daemon, "debug.loglevel", level="debug", for_s=600.0),
}


def rates(daemon: ScriptedDaemon, children: Children, role: str, seconds: float) -> dict[str, float]:
    """Calls per second beside each of them, the median of the turns."""
    found: dict[str, list[float]] = {name: [] for name in LOOKS}
    for _ in range(TURNS):
        for name, look in LOOKS.items():
            clients = children.start_all(role, CLIENTS, seconds=seconds)
            with look(daemon):
                done = run_all(clients)
            with Pack(daemon.socket) as peer:  # what is switched on for a while is switched off for the next
                peer.reply("debug.trace", on=False)
                peer.reply("debug.loglevel", level="configured")
            found[name].append(sum(len(each["took_us"]) / each["seconds"] for each in done))
    return {name: statistics.median(each) for name, each in found.items()}
