"""Notices when one file may have changed, whoever changes it and however: in place, by a rename, with its directory.
So it does for a whole directory, given as `directory / EVERYTHING`.

The directory is watched and not the file, since editors put a new file in its place. While the directory is not there,
the deepest one that is; what the kernel does not tell (a link that leads elsewhere, a directory that was moved away) is
found by the look that the daemon takes once a minute anyway.

Rule: the threads of `watchdog` set a flag and call into the loop once per settling time, whatever happens on the disk;
nothing is decided or read there. At rest they sleep in the kernel.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from cosessiond.clock import Clock

#: The name that stands for every one in a directory.
EVERYTHING: Final = "*"
#: A file is looked at when it has been left alone for so long,
SETTLE_S: Final = 0.2
#: but when it never is, then after so long.
SETTLE_S_MAX: Final = 2.0
#: The watch begins so long after the start: importing the package takes 15 ms or more, which the first client does not
#: wait for. The file is looked at once the watch stands, so nothing is missed.
BEGIN_S: Final = 0.5
#: Looking at something else than before is tried so often, when directories come while it is being set up.
_AIMS_MAX: Final = 4
#: Not those that reading causes: the daemon reads the file itself. `attrib` is told as `modified` before watchdog 7.
_KINDS: Final = ("Created", "Modified", "Attrib", "Deleted", "Moved")


class Deadlines(Protocol):
    """The named deadlines of the loop (`store.leases.Deadlines`)."""

    def after(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` once after `delay_s`, instead of what `name` had pending."""
        ...

    def cancel(self, name: str) -> None:
        """Forget what `name` has pending, if anything."""
        ...


class Aim(NamedTuple):
    """A directory to watch and the name in it that leads to the file; `inode` tells it from another of that name."""

    directory: str
    name: str
    inode: int


def aim_for(path: Path) -> Aim | None:
    """The deepest directory on the way to `path` that is there, None when none can be seen."""
    name = path.name
    for directory in path.parents:
        try:
            real = os.path.realpath(directory, strict=True)  # inotify does not follow a link to a directory by itself
            return Aim(real, name, os.stat(real).st_ino)  # noqa: PTH116  # Path raises RuntimeError for a link in circles
        except OSError:
            name = directory.name
    return None


class FileWatch:
    """Calls `changed` on the loop when the file at `path` may have changed."""

    def __init__(
        self,
        path: Path,
        changed: Callable[[], None],
        *,
        clock: Clock,
        deadlines: Deadlines,
        call_soon: Callable[[Callable[[], None]], object],
        log: Any,
        name: str = "the configuration",
    ) -> None:
        self._name = f"file watch of {name}"
        self._what = name
        self._path = path
        self._changed = changed
        self._clock = clock
        self._deadlines = deadlines
        self._call_soon = call_soon  # of the loop, from any thread
        self._log = log
        self._observer: Any = None
        self._aiming: threading.Thread | None = None
        self._failed = self._said = ""
        self._since = 0.0
        self._closed = False
        # All written by the threads of the observer too: single stores, each right whichever comes first.
        self._told = False
        self._quiet = True
        self._aim: Aim | None = None

    def begin(self) -> None:
        """Watch from BEGIN_S on."""
        self._deadlines.after(self._name, BEGIN_S, self._settled)

    def look(self) -> None:
        """Look now, whatever was noticed; called once a minute."""
        if self._aiming is None:
            self._settled()

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        self._deadlines.cancel(self._name)
        if self._aiming is not None:
            self._aiming.join(1.0)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(1.0)

    # -- on the threads of the observer ------------------------------------------------------------------------------

    def _noticed(self, event: Any) -> None:
        aim = self._aim
        if aim is None or _concerns(aim, event):
            if aim is not None and event.src_path == aim.directory:
                self._aim = None  # a new directory of that name may have the same inode
            self._quiet = False
            if not self._told:
                self._told = True
                self._tell_loop(self._settle)

    def _tell_loop(self, action: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and so has the need
            self._call_soon(action)

    # -- on the loop -------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._since = self._clock.monotonic()
        self._wait()

    def _wait(self) -> None:
        self._quiet = True
        if not self._closed:
            self._deadlines.after(self._name, SETTLE_S, self._when_quiet)

    def _when_quiet(self) -> None:
        if not self._quiet and self._clock.monotonic() - self._since < SETTLE_S_MAX:
            self._wait()
        else:
            self._settled()

    def _settled(self) -> None:
        self._told = False  # from here on a change is told again, so none is lost while the file is being read
        if self._aiming is None and aim_for(self._path) != self._aim:
            self._begin_aiming()
        self._changed()

    def _begin_aiming(self) -> None:
        self._aiming = threading.Thread(target=self._take_aim, name="file watch", daemon=True)
        try:
            self._aiming.start()
        except RuntimeError as error:  # no thread to be had
            self._failed = str(error)
            self._aimed()

    def _aimed(self) -> None:
        self._aiming = None
        if self._failed and self._failed != self._said:
            self._log.warning(f"changes of {self._what} are noticed once a minute only", reason=self._failed)
        self._said = self._failed
        self._changed()  # what came before the watch stood

    # -- on a thread of its own, one at a time: importing, and waiting for threads to end ------------------------------

    def _take_aim(self) -> None:
        self._failed = ""
        try:
            for _ in range(_AIMS_MAX):
                if self._closed or (aim := aim_for(self._path)) == self._aim or aim is None:
                    break
                self._aim = aim
                self._watch(aim)
        except Exception as error:  # noqa: BLE001  # inotify's own limits, a directory that has just gone, a broken package
            self._aim = None
            self._failed = str(error) or type(error).__name__
        self._tell_loop(self._aimed)

    def _watch(self, aim: Aim) -> None:
        from watchdog import events, observers

        if self._observer is None:
            observer = observers.Observer()
            observer.start()
            self._observer = observer
        found = (getattr(events, f"{what}{kind}Event", None) for what in ("File", "Dir") for kind in _KINDS)
        handler = events.FileSystemEventHandler()
        handler.on_any_event = self._noticed  # type: ignore[method-assign]
        self._observer.unschedule_all()
        self._observer.schedule(handler, aim.directory, event_filter=[each for each in found if each is not None])


def _concerns(aim: Aim, event: Any) -> bool:
    """Whether what happened in the watched directory is about the way to the file."""
    if aim.name == EVERYTHING:
        return True
    places = (event.src_path, getattr(event, "dest_path", ""))
    if aim.directory in places:
        return bool(event.event_type in ("deleted", "moved"))
    return any(place.rpartition("/")[2] == aim.name for place in places if isinstance(place, str))
