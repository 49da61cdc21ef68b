"""The layer contracts hold, and the checker would notice if they did not."""

import pytest

import layers


def seed(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return layers.violations(root)


def test_contracts_hold():
    assert layers.violations() == []


def test_downward_import_is_fine(tmp_path):
    files = {
        "client/cosession/errors.py": "",
        "client/cosession/wire.py": "from cosession import errors\nfrom cosession.errors import X\n",
        "client/cosession/messages/base.py": "from cosession.messages import store",
        "client/cosession/messages/store.py": "from .base import Y",
        "daemon/cosessiond/clock.py": "import time",
        "daemon/cosessiond/app.py": "from cosession.errors import X\nfrom cosessiond import clock",
        "daemon/cosessiond/store/schema.py": "import sqlite3\nsqlite3.connect('x')",
    }
    assert seed(tmp_path, files) == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("client/cosession/model.py", "from cosession.wire import X", "stands above it"),
        ("client/cosession/model.py", "def f():\n    from cosession import wire", "stands above it"),
        ("client/cosession/model.py", "from . import wire", "stands above it"),
        ("client/cosession/model.py", "if TYPE_CHECKING:\n    import cosession.wire", "stands above it"),
        ("client/cosession/wire.py", "from cosession import connect_me", "stands above it"),
        ("client/cosession/sync.py", "import cosessiond.clock", "never imports the daemon"),
        ("client/cosession/odd.py", "", "give it a room"),
        ("client/cosession/protocol.py", "import asyncio", "does no input or output"),
        ("client/cosession/exchange/calls.py", "from time import monotonic", "does no input or output"),
        ("client/cosession/exchange/__init__.py", "import socket", "does no input or output"),
        ("client/cosession/errors.py", "import msgspec", "standard library only"),
        ("client/cosession/hook.py", "from cosession import wire", "standard library only"),
        ("client/cosession/mcp.py", "from cosession import doctor", "never import one another"),
        ("daemon/cosessiond/store/engine.py", "from cosessiond.store.commit import X", "stands above it"),
        ("daemon/cosessiond/app.py", "from cosession.sync import X", "both sides share"),
        ("daemon/cosessiond/app.py", "import cosession", "both sides share"),
        ("daemon/cosessiond/claims.py", "from cosessiond.sessions import registry", "never import one another"),
        ("daemon/cosessiond/store/sqlite.py", "from cosessiond.store import memory", "never import one another"),
        ("daemon/cosessiond/app.py", "from time import monotonic", "only cosessiond.clock may"),
        ("daemon/cosessiond/app.py", "from datetime import datetime\ndatetime.now()", "only cosessiond.clock may"),
        ("daemon/cosessiond/app.py", "import os\nos.urandom(8)", "only cosessiond.clock may"),
        ("daemon/cosessiond/app.py", "from os import urandom", "only cosessiond.clock may"),
        ("daemon/cosessiond/app.py", "import uuid", "only cosessiond.clock may"),
        ("daemon/cosessiond/app.py", "import os\nos.fsync(3)", "only cosessiond.process.durable may"),
        ("daemon/cosessiond/app.py", "from os import fdatasync", "only cosessiond.process.durable may"),
        ("client/cosession/wire.py", "import sys\nmac = sys.platform", "speaks of sys.platform"),
        ("daemon/cosessiond/app.py", "LOCAL_PEERCRED = 1", "speaks of LOCAL_PEERCRED"),
        ("daemon/cosessiond/app.py", "import socket as s\nx = s.SO_PEERCRED", "speaks of SO_PEERCRED"),
        ("daemon/cosessiond/app.py", "import os\nx = hasattr(os, 'pidfd_open')", "speaks of pidfd_open"),
        ("daemon/cosessiond/app.py", "import socket\nx = socket.SOCK_NONBLOCK", "only nobody may"),
        ("daemon/cosessiond/store/commit.py", "import sqlite3", "only cosessiond.store.schema"),
        ("daemon/cosessiond/store/sqlite.py", "import sqlite3\nsqlite3.connect('x')", "calls sqlite3.connect()"),
    ],
)
def test_seeded_violation_is_caught(tmp_path, path, text, complaint):
    files = {
        "client/cosession/__init__.py": "",
        "client/cosession/wire.py": "",
        "client/cosession/sync.py": "",
        "client/cosession/doctor.py": "",
        "daemon/cosessiond/__init__.py": "",
        "daemon/cosessiond/clock.py": "",
        "daemon/cosessiond/sessions/__init__.py": "",
        "daemon/cosessiond/sessions/registry.py": "",
        "daemon/cosessiond/store/__init__.py": "",
        "daemon/cosessiond/store/memory.py": "",
        "daemon/cosessiond/store/commit.py": "",
    }
    found = seed(tmp_path, files | {path: text})
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert complaint in found[0]
