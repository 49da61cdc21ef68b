"""Following the audit in both flavours, across the end of one store and the beginning of another."""

from __future__ import annotations

import shutil

import pytest

from cosession.errors import EpochChanged
from cosession.messages.audit import Audit


def begin_anew(daemon):
    """Another store under the same socket: what there was is somewhere else."""
    assert daemon.stop() == 0
    shutil.move(daemon.home / "state", daemon.home / "earlier")
    daemon.start()


def names(records):
    return [(each.id, each.operation) for each in records]


@pytest.mark.parametrize("after", [0, None])
def test_a_store_that_began_anew_is_shown_from_its_first_record_under_its_epoch(use, daemon, after):
    async def body(client):
        trail = await client.follow_audit(after=after, kind="admin")
        if after is not None:
            assert names([await trail.next(5.0)]) == [(1, "start")]
        assert trail.epoch == client.epoch
        epoch = trail.epoch
        begin_anew(daemon)
        assert names([await trail.next(10.0)]) == [(1, "start")]
        assert trail.epoch not in ("", epoch)
        assert (trail.position, trail.cut) == (1, 0)
        daemon.restart()
        assert names([await trail.next(10.0) for _ in range(3)]) == [(2, "stop"), (3, "backup"), (4, "start")]
        await trail.close()

    use(body)


def test_a_position_of_another_epoch_is_gone_on_with_from_the_first_record(use, daemon):
    async def body(client):
        epoch = client.epoch
        begin_anew(daemon)
        trail = await client.follow_audit(after=700, epoch=epoch)
        assert names([await trail.next(10.0)]) == [(1, "start")]
        assert trail.epoch != epoch
        await trail.close()
        with pytest.raises(EpochChanged) as caught:  # a single page says so instead
            await client.call(Audit(after=1, epoch=epoch))
        assert caught.value.data["epoch"] == trail.epoch

    use(body)
