"""Fixtures of the client's tests: both flavours behind one face."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from cosession import aio, sync
from scripted import ScriptedDaemon


class Awaited:
    """A blocking object with an asyncio face, so that one test serves both flavours: calls block the loop, which runs
    nothing else."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if not inspect.ismethod(found):
            return found
        if name in ("watch", "session", "claim", "letters", "follow_audit"):
            return lambda *args, **names: Awaited(found(*args, **names))

        async def call(*args, **names):
            return found(*args, **names)

        return call

    async def __aenter__(self):
        self.inner.__enter__()
        return self

    async def __aexit__(self, *error):
        return self.inner.__exit__(*error)

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None

    def __await__(self):
        yield from ()
        return self


@pytest.fixture(params=["sync", "aio"])
def connect(request):
    """`connect(...)` of one flavour or the other, to be used as `async with connect(...) as client`."""
    if request.param == "aio":
        return aio.connect
    return lambda *args, **names: Awaited(sync.connect(*args, **names))


@pytest.fixture
def run():
    """Run a coroutine to its end; fails when it leaves a task behind."""

    def runs(coroutine):
        async def whole():
            result = await coroutine
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left behind: {left}"
            return result

        return asyncio.run(whole())

    return runs


@pytest.fixture
def use(connect, run, daemon):
    """Run a test body with a client of the daemon."""

    def uses(body, **names):
        async def whole():
            async with connect(daemon.socket, **names) as client:
                return await body(client)

        return run(whole())

    return uses


@pytest.fixture
def scripted(home):
    """A ScriptedDaemon; `.path` is its socket."""
    daemon = ScriptedDaemon(home / "scripted.sock")
    yield daemon
    daemon.close()
