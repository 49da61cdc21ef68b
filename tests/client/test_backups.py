"""The verbs about backups, in both flavours: made, listed, verified; waited for in several calls, and refused."""

from __future__ import annotations

import pytest

from cosession.errors import CosessionError
from cosession.messages.backup import BackupNowReply, BackupVerifyReply
from cosession.model import Backup


def test_made_listed_and_verified(use, daemon):
    async def body(client):
        assert await client.backups() == []
        await client.put("a", "some words")
        first = await client.backup()
        await client.put("a", 2)
        second = await client.backup(timeout_s=60)
        assert (first.state, first.reason, first.revision, first.entries) == ("valid", "demand", 1, 1)
        assert await client.backups() == [second, first]
        assert await client.verify_backup() == ""
        path = daemon.home / "state" / "backups" / f"{first.name}.db"
        assert path.stat().st_size == first.size_bytes
        path.write_bytes(path.read_bytes().replace(b"some words", b"some w0rds"))
        assert "does not match its hash" in await client.verify_backup(first.name)
        assert [(each.name, each.state) for each in await client.backups()] == [
            (second.name, "valid"),
            (first.name, "damaged"),
        ]

    use(body)


def test_what_is_not_there_cannot_be_verified(use):
    async def body(client):
        for name in ("", "../../etc/passwd", "00000000000000000009-20260101T000000Z-demand"):
            with pytest.raises(CosessionError, match=r"^cannot verify") as caught:
                await client.verify_backup(name)
            assert caught.value.code == "not_found"

    use(body)


def test_it_is_waited_for_in_as_many_calls_as_it_takes(connect, run, scripted):
    """Each asks for what the last was told of, and leaves time for its answer."""
    made = Backup(name="x", state="valid")
    scripted.script += [
        BackupNowReply(revision=7, number=4, phase="copying"),
        BackupNowReply(revision=7, number=4, phase="proving"),
        BackupNowReply(revision=7, number=4, phase="over", backup=made),
        BackupVerifyReply(revision=7, number=5, phase="proving", name="x"),
        BackupVerifyReply(revision=7, number=5, phase="over", name="x", wrong="its size"),
    ]

    async def body():
        async with connect(scripted.path) as client:
            assert await client.backup(timeout_s=60) == made
            assert await client.verify_backup("x", timeout_s=60) == "its size"

    run(body())
    assert [each.number for each in scripted.calls] == [0, 4, 4, 0, 5]
    assert all(0 < each.wait_s < 60 for each in scripted.calls)
