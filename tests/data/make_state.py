"""Makes tests/data/state-vN/: two stores of the schema that this daemon writes, by a real one, and what is expected.

    python tests/data/make_state.py

`clean` was stopped in order; `killed` was stopped, started, written to and killed with SIGKILL, so that its newest
batches are in the WAL only, with a session that was alive until then.

Rule: run it only while that schema is not released. Afterwards these stores are what users have, and never change; so
those of earlier schemas are made by no code that is still here.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
from msgspec import Raw, msgpack

from cosession.errors import CosessionError
from cosession.messages import Reply, Request, sessions
from cosession.messages.admin import Status
from cosession.messages.past import Purge, Revert
from cosession.messages.store import (
    Add,
    Append,
    CompareEntry,
    CompareRange,
    Delete,
    Get,
    Merge,
    Put,
    Txn,
    TxnDelete,
    TxnMerge,
    TxnPut,
)
from cosessiond.store.migrations import SCHEMA
from data import states
from durability.link import Link, open_when_ready
from durability.loop import ScriptedDaemon
from harness import private_home

WAIT_S: Final = 10.0
MONTH_S: Final = 30 * 24 * 3600.0
VALUES: Final[dict[str, Any]] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "least": -(2**63),
    "most": 2**63 - 1,
    "float": -0.1,
    "large float": 1.5e300,
    "empty string": "",
    "text": "Zu\u0308rich \u2014 \u6771\u4eac \U0001f980",
    "long text": "abc" * 700,
    "empty list": [],
    "empty map": {},
    "list": [1, [2, [3, {"deep": [None]}]], "x"],
    "map": {"b": 1, "a": {"nested": True, "": "empty name"}, "\u00e9": 2.5},
}


def raw(value: Any) -> Raw:
    """JSON data as it travels."""
    return Raw(msgpack.encode(value))


class Maker:
    """Sends requests over one connection, and remembers the writes with their request ids."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.requests: list[states.Request] = []

    def write(self, request: Request[Any]) -> int:
        """Send a write under the next request id; returns its revision (0: it took none)."""
        request_id = f"fixture-{len(self.requests) + 1}"
        named: Request[Any] = msgspec.structs.replace(request, request_id=request_id)
        reply = self._link.call(named)
        revision = _revision(reply)
        params = msgpack.decode(msgpack.encode(named))
        self.requests.append(states.Request(method=named.method, params=params, revision=revision))
        return revision

    def until(self, space: str, key: str, what: str) -> None:
        """Wait until an entry is absent, or (in $sessions) in the state `what`."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            entry = self._link.call(Get(space=space, key=key)).entry
            state = entry.value["state"] if entry and space == "$sessions" else "absent" if entry is None else "present"
            if state == what:
                return
            time.sleep(0.01)
        raise AssertionError(f"{space} {key} did not become {what}")


def first_part(maker: Maker, socket: Path) -> None:
    """Everything but a live session."""
    for name, value in VALUES.items():
        maker.write(Put(key=f"value/{name}", value=raw(value)))
    for index in range(60):
        maker.write(Put(key="history/long", value=raw({"step": index})))
    revision = 0
    for index in range(5):
        revision = maker.write(Put(key="chain", value=raw(index), expect_revision=revision))
    with contextlib.suppress(CosessionError):
        maker.write(Put(key="chain", value=raw("refused"), expect_revision=1))
    for patch in ({"a": 1, "b": {"c": 2}}, {"b": {"c": None, "d": [1]}}, {"a": None, "e": "x"}, {"b": 7}):
        maker.write(Merge(key="merged", patch=raw(patch)))
    for index in range(4):
        maker.write(Put(key=f"gone/{index}", value=raw(index)))
        maker.write(Delete(key=f"gone/{index}"))
    maker.write(Put(key="gone/3", value=raw("a second life")))
    for index in range(3):
        maker.write(Put(key=f"notes/{index}", value=raw([index]), project=states.PROJECT))
    _transactions(maker)
    _operations(maker)
    maker.write(Put(key="lease/long", value=raw("kept"), ttl_s=MONTH_S))
    maker.write(Put(key="lease/detached", value=raw(1), ttl_s=MONTH_S))
    maker.write(Put(key="lease/detached", value=raw(2)))
    maker.write(Put(key="lease/over", value=raw("short"), ttl_s=0.1))
    maker.until("context", "lease/over", "absent")
    _sessions(maker, socket)


def _transactions(maker: Maker) -> None:
    put = [TxnPut(key=f"txn/{index}", value=raw(index)) for index in range(4)]
    revision = maker.write(Txn(then=[*put], compares=[CompareEntry(key="txn/0", value=0)]))
    maker.write(
        Txn(
            compares=[
                CompareRange(prefix="txn/", max_mod_revision=revision),
                CompareEntry(key="txn/1", field="version", value=1),
                CompareEntry(key="txn/2", field="create_revision", value=revision),
            ],
            then=[
                TxnPut(key="txn/0", value=raw("again"), ttl_s=MONTH_S),
                TxnDelete(key="txn/1"),
                TxnMerge(key="merged", patch=raw({"by": "txn"})),
            ],
        )
    )
    maker.write(
        Txn(
            compares=[CompareEntry(key="txn/2", value=1)],
            then=[TxnDelete(key="txn/2")],
            otherwise=[TxnPut(key="txn/otherwise", value=raw(True))],
        )
    )


def _operations(maker: Maker) -> None:
    for number in (1, 2, -0.5):
        maker.write(Add(key="sum", number=number))
    first = maker.write(Append(key="list", values=raw(["a"])))
    maker.write(Append(key="list", values=raw(["b", {"c": 1}])))
    maker.write(Revert(key="list", to_revision=first))
    for index in range(3):
        maker.write(Put(key="purged/all", value=raw(f"secret {index}")))
    maker.write(Purge(key="purged/all"))
    older = maker.write(Put(key="purged/older", value=raw("secret")))
    maker.write(Put(key="purged/older", value=raw("kept")))
    maker.write(Purge(key="purged/older", before_revision=older + 1))
    with contextlib.suppress(CosessionError):  # for the audit
        maker.write(Put(space="$sessions", key="denied", value=raw("secret")))


def _sessions(maker: Maker, socket: Path) -> None:
    with session(socket, "orderly", "close"):
        maker.until("$sessions", "orderly", "closed")
    with session(socket, "otter", "stay") as process:
        maker.until("context", "presence/otter", "present")
        process.kill()
        maker.until("$sessions", "otter", "crashed")
    with session(socket, "before", "replace"):
        maker.until("$sessions", "before", "superseded")
        maker.until("$sessions", "before-next", "closed")
    maker.until("context", "presence/otter", "absent")


def second_part(maker: Maker) -> None:
    """What is in the WAL only."""
    for index in range(4):
        maker.write(Put(key=f"late/{index % 3}", value=raw({"late": index})))
    maker.write(Delete(key="late/1"))
    maker.write(Merge(key="merged", patch=raw({"late": True})))
    maker.write(Txn(then=[TxnPut(key="late/txn", value=raw(1)), TxnDelete(key="late/2")]))
    maker.write(Put(key="lease/late", value=raw(1), ttl_s=MONTH_S))


# -- sessions are processes ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def session(socket: Path, name: str, conduct: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is a session; see `be_session`."""
    command = [sys.executable, str(Path(__file__).resolve()), "--session", str(socket), name, conduct]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def be_session(socket: Path, name: str, conduct: str) -> None:
    """Register, put an ephemeral entry, then: close, replace (and close), or stay until killed."""
    with open_when_ready(socket) as link:
        link.call(_register(name))
        link.call(Put(key=f"presence/{name}", value=raw("here"), ephemeral=True, session=name))
        if conduct == "close":
            link.call(sessions.Close(session=name, reason="made for a test"))
        elif conduct == "replace":
            link.call(_register(f"{name}-next", replaces=name))
            link.call(sessions.Close(session=f"{name}-next"))
        sys.stdin.read()


def _register(name: str, *, replaces: str = "") -> sessions.Register:
    return sessions.Register(
        id=name,
        name=name,
        agent="custom",
        model="none",
        project=states.PROJECT,
        branch="main",
        host="example",
        replaces=replaces,
    )


# -- making --------------------------------------------------------------------------------------------------------


def _revision(reply: Reply) -> int:
    written = getattr(reply, "written", None)
    if isinstance(written, list):
        return written[0].mod_revision if written else 0
    return written.mod_revision if written else 0


def make(store: states.Committed, home: Path) -> states.Expected:
    """One store, made in `home` and copied to its place."""
    script = Path(__file__).resolve().with_name("elsewhere.py")
    daemon = ScriptedDaemon(home, command=[sys.executable, str(script)])
    with contextlib.ExitStack() as stack:
        stack.callback(daemon.close)
        daemon.start()
        with open_when_ready(daemon.socket) as link:
            maker = Maker(link)
            first_part(maker, daemon.socket)
        if store.variant == "killed":
            daemon.restart()
            with open_when_ready(daemon.socket) as link:
                later = Maker(link)
                later.requests = maker.requests
                stack.enter_context(session(daemon.socket, states.ORPHAN, "stay"))
                later.until("context", states.ORPHANED_KEY, "present")
                second_part(later)
        expected = _read_back(daemon, maker.requests)
        if store.variant == "killed":
            daemon.kill()
        else:
            daemon.stop()
    place = store.place
    place.mkdir(parents=True, exist_ok=True)
    for name in states.FILES:
        (place / name).unlink(missing_ok=True)
    states.copy_store(home / "state", place)
    states.cut_wal(place)
    _, revision, chain, state = states.recorded(place)
    found = msgspec.structs.replace(
        expected, chain_hash=chain, state_hash=state, settled=revision, files=states.digests(place)
    )
    assert found.recorded == states.recorded(place)
    assert revision == expected.revision or store.variant == "killed", "an orderly end leaves nothing to derive"
    return found


def _read_back(daemon: ScriptedDaemon, requests: list[states.Request]) -> states.Expected:
    with open_when_ready(daemon.socket) as link:
        hello = link.hello()
        log = states.logged(daemon.socket, hello.revision)
        expected = states.Expected(
            epoch=hello.epoch,
            revision=hello.revision,
            wall_ms=time.time_ns() // 1_000_000,
            chain_hash="",
            state_hash="",
            files={},
            entries=states.listed(link, hello.revision),
            histories=states.histories(link, hello.revision, log),
            log=log,
            requests=[request for request in requests if request.revision],
            audit=states.audited(link),
        )
        assert link.call(Status()).revision == hello.revision, "the store moved while it was read"
    return expected


def main() -> int:
    """Make both."""
    for store in (states.Committed(SCHEMA, variant) for variant in states.VARIANTS):
        with private_home() as home:
            expected = make(store, home)
        store.save(expected)
        entries, size = len(expected.entries), sum(path.stat().st_size for path in store.place.iterdir())
        print(f"{store.variant}: {entries} entries, {expected.revision} revisions, {size} bytes, {expected.files}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--session"]:
        be_session(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        sys.exit(main())
