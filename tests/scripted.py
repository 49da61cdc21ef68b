"""A daemon made of a script, in both encodings: what clients do when it fails them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque

from msgspec import msgpack

from cosession.errors import CosessionError, EpochChanged
from cosession.messages import REQUESTS
from cosession.messages.admin import HelloReply, PingReply
from cosession.messages.limits import LIMITS
from cosession.messages.store import GetReply, PutReply
from cosession.model import Entry, Written
from cosession.protocol import ServerConnection


class ScriptedDaemon:
    """Answers like a daemon until the script says otherwise.

    `script` holds actions for the calls that are neither hello nor ping, in order: a reply, a CosessionError,
    "silence", "hang up", or a function (daemon, connection, protocol, call) that does as it likes. After its end every
    call gets `answer`.
    """

    def __init__(self, path):
        self.path = str(path)
        self.epoch = "epoch-1"
        self.protocol = 1
        self.limits = LIMITS
        self.hello_error = None
        self.script = deque()
        self.calls = []
        self.hellos = []
        self.connections = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)

    def hang_up(self):
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection):
        protocol = ServerConnection(LIMITS)
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                protocol.receive_data(data)
                while call := protocol.next_call(7):
                    self._handle(connection, protocol, call)
                    connection.sendall(protocol.data_to_send())

    def _handle(self, connection, protocol, call):
        request = msgpack.decode(call.params, type=REQUESTS[call.method])
        if call.method == "hello":
            self.hellos.append(request)
            action = self.hello_error or self._hello(request)
        elif call.method == "ping":
            action = PingReply(revision=7, pid=4711, version="9.9", epoch=self.epoch)
        else:
            self.calls.append(request)
            action = self.script.popleft() if self.script else self.answer(request)
        if callable(action):
            action(self, connection, protocol, call)
        elif isinstance(action, CosessionError):
            protocol.fail(call, action, 7)
        elif action == "hang up":
            connection.shutdown(socket.SHUT_RDWR)
        elif action != "silence":
            protocol.reply(call, action)

    def _hello(self, request):
        if request.epoch not in ("", self.epoch):
            return EpochChanged("cannot go on: another epoch", data={"epoch": self.epoch})
        return HelloReply(
            revision=7,
            version="9.9",
            protocol=self.protocol,
            daemon_id="d",
            pid=4711,
            state_directory="/nowhere",
            epoch=self.epoch,
            limits=self.limits,
        )

    def answer(self, request):
        if hasattr(request, "value"):
            written = Written(kind="put", key=request.key, version=1, create_revision=8, mod_revision=8)
            return PutReply(revision=8, written=written)
        entry = Entry(key=request.key, value=request.key, version=1, create_revision=3, mod_revision=3)
        return GetReply(revision=7, entry=entry)
