"""The model of a disk, by itself: what it lets a power cut take, and what not."""

from __future__ import annotations

import random

import pytest

from power.disk import LENGTH_ONLY, Disk
from power.trace import Event, Unreadable, events


def disk_after(*happened):
    disk = Disk()
    for number, (kind, path, *rest) in enumerate(happened):
        names = dict(zip(("offset", "data", "other"), rest, strict=False))
        if kind == "sync":
            disk.take(Event("begin", path, offset=number))
            disk.take(Event("synced", path, offset=number))
        else:
            disk.take(Event(kind, path, **names))
    return disk


def left(disk, share, names=1.0, seed=0):
    found = disk.left(lambda *_: lambda *_: share, lambda *_: names, random.Random(seed))
    return {path: None if content is None else bytes(content) for path, content in found.files()}


SYNCED = (("create", "a"), ("write", "a", 0, b"x" * 1024), ("sync", "a"), ("sync", ""))


def test_what_was_synced_stays():
    assert left(disk_after(*SYNCED), 0.0, names=0.0) == {"a": b"x" * 1024}


def test_a_name_lasts_when_its_directory_was_synced_and_not_with_its_file():
    disk = disk_after(("create", "a"), ("write", "a", 0, b"x"), ("sync", "a"))
    assert left(disk, 1.0, names=0.0) == {}
    assert left(disk, 0.0, names=1.0) == {"a": b"x"}


def test_of_what_was_not_synced_any_sector_may_be_there():
    disk = disk_after(*SYNCED, ("write", "a", 0, b"y" * 1024))
    found = {left(disk, 0.5, seed=seed)["a"] for seed in range(30)}
    halves = [b"x" * 512, b"y" * 512]
    assert found == {first + second for first in halves for second in halves}


def test_a_write_that_began_within_a_sync_is_not_safe_by_it():
    disk = disk_after(*SYNCED)
    disk.take(Event("begin", "a", offset=99))
    disk.take(Event("write", "a", data=b"y"))
    disk.take(Event("synced", "a", offset=99))
    assert left(disk, 0.0)["a"] == b"x" * 1024


def test_a_length_may_come_without_its_bytes():
    disk = disk_after(*SYNCED, ("write", "a", 1024, b"y" * 512))
    assert left(disk, LENGTH_ONLY)["a"] == b"x" * 1024 + bytes(512)


def test_what_was_written_behind_a_cut_is_not_seen_without_the_cut():
    disk = disk_after(*SYNCED, ("size", "a", 0), ("write", "a", 0, b"y" * 1024))
    found = {left(disk, 0.5, seed=seed)["a"] for seed in range(60)}
    assert b"x" * 1024 in found
    assert b"y" * 1024 in found
    assert not any(b"x" in each and b"y" in each for each in found)


def test_a_rename_happens_as_a_whole_or_not():
    disk = disk_after(*SYNCED, ("create", "b"), ("write", "b", 0, b"new"), ("sync", "b"), ("rename", "b", 0, b"", "a"))
    found = {tuple(sorted(left(disk, 1.0, names=0.5, seed=seed).items())) for seed in range(60)}
    assert found == {(("a", b"x" * 1024),), (("a", b"x" * 1024), ("b", b"new")), (("a", b"new"),)}


def test_a_directory_takes_with_it_what_is_in_it():
    disk = disk_after(("mkdir", "d"), ("create", "d/a"), ("write", "d/a", 0, b"x"), ("sync", "d/a"), ("sync", "d"))
    assert left(disk, 1.0, names=0.0) == {}
    assert left(disk, 1.0, names=1.0) == {"d": None, "d/a": b"x"}


def test_a_call_that_is_not_understood_is_an_error(tmp_path):
    line = f"7 sendfile(3<{tmp_path}/a>, 4<{tmp_path}/b>, NULL, 10) = 10"
    with pytest.raises(Unreadable):
        list(events([line], tmp_path))
