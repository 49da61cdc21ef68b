"""Fixtures of the socket's tests."""

from __future__ import annotations

import pytest

from server.daemons import serving


@pytest.fixture(scope="module")
def _module_daemon():
    with serving() as daemon:
        yield daemon


@pytest.fixture
def shared_daemon(_module_daemon):
    """One daemon for the tests of a module that leave it in order, each with keys of its own.

    A test that ends it fails; the next gets a new one, so that only that test does.
    """
    if not _module_daemon.running:
        _module_daemon.wait()
        _module_daemon.start()
    yield _module_daemon
    assert _module_daemon.running, f"the daemon has ended:\n{_module_daemon.stderr()[-2000:]}"
