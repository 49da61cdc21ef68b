"""How much of a WAL counts is found by a few looks, at whichever frame of a round it ends.

Rule: files made here, frame by frame; who looks again and again finds the same as who looks once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cosessiond.store import wal

PAGE_BYTES = 512
FRAME = wal.FRAME_BYTES + PAGE_BYTES


def written(path: Path, frames: int, *, salts: bytes, before: int = 0) -> None:
    """A round of so many frames over an earlier one that had `before`."""
    header = bytes(8) + PAGE_BYTES.to_bytes(4) + bytes(4) + salts + bytes(8)
    old = (bytes(8) + b"earlier!" + bytes(FRAME - 16)) * (before - frames)
    path.write_bytes(header + (bytes(8) + salts + bytes(FRAME - 16)) * frames + old)


@pytest.mark.parametrize("before", [0, 20])
def test_the_end_of_a_round_is_found_wherever_it_is(tmp_path: Path, before: int) -> None:
    path = tmp_path / "store.db-wal"
    for first in range(20):
        for more in range(20 - first):
            written(path, first, salts=b"saltsalt", before=before)
            followed = wal.Wal(path)
            assert followed.bytes() == first * FRAME
            written(path, first + more, salts=b"saltsalt", before=before)
            assert followed.bytes() == (first + more) * FRAME == wal.Wal(path).bytes()
            written(path, more, salts=b"newround", before=before)
            assert followed.bytes() == more * FRAME, "a round begins anew"
            followed.close()
