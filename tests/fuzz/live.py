"""The fuzzer of the live socket: short connections with bad frames in both encodings, and what must hold meanwhile.

Whatever is sent, each whole frame is answered or the connection is cut, no answer says `internal`, the daemon lives, a
bystander is served, memory stays, and at the end it stops in order and opens its store again.

Rule: counts what was answered or cut, not what was sent.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from typing import Final

import psutil

from fuzz import corpus
from fuzz.mutate import Mutator, Sent
from harness import Daemon
from rawclient import Ended, Pack, Peer
from server.daemons import MIB

#: So small that what is stored is small beside the memory that is judged.
LIMITS: Final[dict[str, float]] = {
    "live_bytes_max": 2 * MIB,
    "live_entries_max": 1_000,
    "log_window_revisions": 1_000,
    "log_window_bytes": 2 * MIB,
    "request_ids_max": 1_000,
    "audit_bytes_max": 1 * MIB,
    "frame_finish_s": 1.0,
}
GROWN_MAX: Final = 32 * MIB
#: Memory is compared with what it was after so many frames: by then every cache and every pool has been used.
WARM_FRAMES: Final = 2_000
#: Who is silent for so long is waiting for a turn, or for the audit.
SILENT_S: Final = 0.1
SERVED_S: Final = 10.0
#: Smaller than what a writable socket takes without waiting.
PIECE_BYTES: Final = 4096
BUGS: Final = frozenset({"internal", "io_error", "damaged"})


class Fuzz:
    """One daemon under fire. `wrong` says what was found; `frames` is the count."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self._daemon = daemon
        self._mutator = Mutator(seed, corpus.trees(), corpus.conversations())
        self._process = psutil.Process(daemon.pid)
        self._warm_bytes = 0
        self.frames = 0
        self.connections = 0
        self.grown_max = 0
        self.wrong: list[str] = []
        self.bystander = Bystander(daemon)

    def one(self) -> int:
        """One connection; how many frames were answered or cut."""
        encoding = ("json", "msgpack")[self.connections % 2]
        sent = self._mutator.connection(encoding)
        self.connections += 1
        try:
            found = self._talk(sent)
        except OSError as error:
            if not self._daemon.running:
                self.wrong.append(f"the daemon ended on {sent.data[:300]!r}: {self._daemon.stderr()[-500:]}")
            else:
                self.wrong.append(f"no connection: {error!r}")
            return 0
        self.frames += found
        self._look()
        return found

    def end(self) -> None:
        """Stop the daemon in order and have it open what it has stored. Call it last."""
        self.bystander.stop()
        self.wrong += self.bystander.wrong
        if not self._daemon.running:
            return
        with contextlib.suppress(AssertionError):
            code = self._daemon.stop()
            if code == 0:
                self._daemon.start()
                with Pack(self._daemon.socket) as peer:
                    peer.reply("range", limit=1000)
                return
            self.wrong.append(f"it ended with {code} after SIGTERM")
        self.wrong.append(f"it did not stop and start again: {self._daemon.stderr()[-500:]}")

    def _talk(self, sent: Sent) -> int:
        """Send all of it and read until every frame is answered, the connection is cut, or nothing more comes."""
        with Peer(self._daemon.socket, timeout_s=SERVED_S) as peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, Ended):  # cut: what it said is still there
                _pour(peer, sent.data)
                peer.half_close()
            peer.sock.settimeout(SILENT_S)
            answered = 0
            try:
                while answered < sent.frames:
                    answer = peer.next()
                    answered += answer.kind in ("reply", "error")
                    if answer.code in BUGS:
                        self.wrong.append(f"it answered {answer.body} to {sent.data[:300]!r}")
            except Ended as rest:
                if rest.args[0]:
                    self.wrong.append(f"it ended with half a frame, {rest.args[0][:80]!r}, on {sent.data[:300]!r}")
                answered += 1  # by the cut
            except TimeoutError:  # a turn, or the audit, is waited for
                pass
            except (AssertionError, ValueError, KeyError, TypeError) as error:
                self.wrong.append(f"it sent what is no answer ({error!r}) to {sent.data[:300]!r}")
        return min(answered, sent.frames)

    def _look(self) -> None:
        if self.connections % 50:
            return
        self.wrong += self.bystander.wrong
        if not self._daemon.running:
            self.wrong.append(f"the daemon has ended: {self._daemon.stderr()[-500:]}")
            return
        resident = self._process.memory_info().rss
        if self.frames < WARM_FRAMES:
            self._warm_bytes = resident
            return
        self.grown_max = max(self.grown_max, resident - self._warm_bytes)
        if self.grown_max > GROWN_MAX:
            self.wrong.append(f"memory has grown by {self.grown_max / MIB:.0f} MiB after {self.frames} frames")


def _pour(peer: Peer, data: bytes) -> None:
    """Send all of it, taking in what comes meanwhile: who does not read is not read from."""
    left = memoryview(data)
    while left:
        readable, writable, _ = select.select([peer.sock], [peer.sock], [], SERVED_S)
        if not readable and not writable:
            raise TimeoutError(f"nothing is read from us for {SERVED_S:g} s")
        if readable:
            peer.take_in()
        if writable:
            left = left[peer.sock.send(left[:PIECE_BYTES]) :]


class Bystander(threading.Thread):
    """Another client, which must notice nothing: it writes and reads its own key all the time."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(name="bystander", daemon=True)
        self._socket = daemon.socket
        self._stopping = threading.Event()
        self.wrong: list[str] = []
        self.served = 0
        self.waited_s_max = 0.0
        self.start()

    def run(self) -> None:
        """Until `stop`, or until it is not served."""
        try:
            with Pack(self._socket, timeout_s=SERVED_S) as peer:
                while not self._stopping.wait(0.02):
                    began = time.monotonic()
                    peer.reply("put", key="bystander", value=self.served, project="bystander")
                    entry = peer.reply("get", key="bystander", project="bystander")["entry"]
                    assert entry["value"] == self.served, f"it read {entry}, having written {self.served}"
                    self.waited_s_max = max(self.waited_s_max, time.monotonic() - began)
                    self.served += 1
        except (OSError, Ended, AssertionError) as error:
            self.wrong.append(f"a bystander, served {self.served} times before: {error!r}")

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self._stopping.set()
        self.join()
