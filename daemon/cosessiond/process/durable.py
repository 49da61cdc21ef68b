"""Making what the daemon writes last: synced down to the medium, and in its place whole or not at all.

On macOS fsync(2) hands data to the drive, which may lose what it has not yet written, or write it in another order;
F_FULLFSYNC of fcntl(2) makes the drive write it. File systems that know nothing of it refuse it, and get the plain one.

Rule: nothing else in the daemon syncs; how SQLite does it is set in `store.schema`. A sync that fails is an OSError,
but for a refusal to sync a directory: there is then no way to do it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Callable
from typing import Final

F_FULLFSYNC: Final = 51  # <sys/fcntl.h> of macOS
#: "Not here": ENOTSUP of network volumes, EOPNOTSUPP, ENOTTY of VNOP_IOCTL, EINVAL. EIO and ENOSPC are no refusals.
REFUSALS: Final = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL))


def sync(
    descriptor: int,
    *,
    platform: str = sys.platform,
    control: Callable[[int, int], object] = fcntl.fcntl,
) -> None:
    """Returns once the file, as it is now, survives a power cut, as far as the drive tells the truth."""
    if platform == "darwin":
        try:
            control(descriptor, F_FULLFSYNC)
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
        else:
            return
    os.fsync(descriptor)


def sync_directory(directory: int) -> None:
    """The same for the names in an open directory: a new file lasts only when its name does."""
    try:
        sync(directory)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise


def make_directory(path: str) -> None:
    """Make it with all above it. Each new one is 0700, and its name synced: it must not take what is in it with it."""
    try:
        os.mkdir(path, 0o700)  # noqa: PTH102 - the sibling of what follows
    except FileExistsError:
        if not os.path.isdir(path):  # noqa: PTH112 - likewise
            raise
        return
    except FileNotFoundError:
        above = os.path.dirname(path)  # noqa: PTH120 - likewise
        if above in ("", path):
            raise
        make_directory(above)
        os.mkdir(path, 0o700)  # noqa: PTH102 - likewise
    with contextlib.suppress(PermissionError):  # one that may be entered and not read
        parent = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
        try:
            sync_directory(parent)
        finally:
            os.close(parent)


def write_whole(directory: int, name: str, data: bytes) -> None:
    """Put `data` under `name` (0600) in an open directory, in place of what is there. After a crash or a power cut at
    any moment there is the old file or the new one, never a part.
    """
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)  # of a crash in the middle of this
    descriptor = os.open(
        new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            sync(descriptor)
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=directory)
        raise
    sync_directory(directory)
