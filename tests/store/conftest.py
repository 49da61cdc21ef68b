"""Fixtures of the store's tests: every engine, each in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cosessiond.store.engine import Engine
from store.engines import NAMES, Place


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where one engine is opened and opened again; the test runs once for each kind of engine."""
    found = Place(request.param, tmp_path)
    yield found
    found.close()


@pytest.fixture
def engine(place: Place) -> Engine:
    """A new store with the windows of a release; the test runs once for each kind of engine."""
    return place.open()
