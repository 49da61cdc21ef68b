"""A registry in a virtual world: see `rig`."""

from __future__ import annotations

import pytest

from cosession.errors import CosessionError
from cosession.model import Instance
from cosessiond.sessions.identity import ProcessRef
from rig import BOOT, Rig

FOREIGN = Instance(boot_id=BOOT, pid=7, start_time=70, judgeable=False)


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture
def make_rig():
    return Rig


@pytest.fixture
def foreign():
    """An instance in another pid namespace."""
    return FOREIGN


@pytest.fixture
def ref():
    """A process as an ancestry names it."""
    return lambda instance: ProcessRef(instance.pid, instance.start_time)


@pytest.fixture
def refusal():
    """Call something that must refuse, in the words of the house; its code."""

    def call(function, *arguments, **options):
        with pytest.raises(CosessionError) as caught:
            function(*arguments, **options)
        assert str(caught.value).startswith("cannot ")
        return caught.value.code

    return call
