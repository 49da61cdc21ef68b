"""What a user means to claim, as the daemon wants to hear it: paths resolved against the worktree, names as they are.

A text that begins with `name:`, `machine:` or `path:` is a target already; `path:` is relative to the root of the
worktree. Any other is a path or glob as a shell would read it, from the directory one is in: links are followed as far
as something exists, a directory stands for all below it, and what names an existing file names just that file,
whatever characters it has. Outside of a repository the root is `/`, so that all who work there agree on it.

A path may lead to a mount that answers no more, where every look hangs. So looking has a deadline, and is left to
itself behind it: nobody waits for a file system but whoever named it, and that one not for long.

Rule: standard library only and light; looks at names, never at contents, and writes nothing. What is no path inside the
worktree is refused here, since the daemon looks at no path at all.
"""

# pathlib costs more to import than this module to run.
# ruff: noqa: PTH112, PTH118, PTH121
from __future__ import annotations

import os

from cosession.errors import InvalidRequest, TimedOut
from cosession.project import worktree_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

PREFIXES: Final = ("path:", "name:", "machine:")
_SPECIAL: Final = "*?["
_SHOWN_MAX: Final = 128
#: How long a file system may take; one across a network answers in a fraction of it.
LOOK_S: Final = 5.0


def resolve(texts: Sequence[str], directory: str = ".", *, look_s: float = LOOK_S) -> tuple[list[str], str]:
    """The targets in `texts` as seen from `directory`, and the worktree that those of paths are relative to.

    Raises InvalidRequest as `Place.target`, and TimedOut when a file system does not answer within `look_s` seconds.
    """
    if all(text.startswith(("name:", "machine:")) for text in texts):
        return list(texts), ""
    from threading import Thread  # not free, and seldom needed

    found: list[tuple[list[str], str] | BaseException] = []

    def look() -> None:
        try:
            place = Place(directory)
            found.append((place.targets(texts), place.worktree))
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            found.append(error)

    thread = Thread(target=look, name="cosession targets", daemon=True)
    thread.start()
    thread.join(look_s)
    if not found:
        shown = ", ".join(texts)[:_SHOWN_MAX]
        raise TimedOut(
            f"cannot claim {shown!r}: a file system it lies on did not answer within {look_s:g} s; "
            "look for a dead mount (findmnt), or name it as path: and its path in the worktree"
        )
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


class Place:
    """A directory, and the worktree it is in. `worktree` is what claims of paths are relative to."""

    def __init__(self, directory: str = ".", worktree: str = "") -> None:
        """`worktree`: where that is known already, so that no file is read."""
        self._directory = directory
        self.worktree = worktree or worktree_of(directory) or "/"
        self._folds: bool | None = None

    def targets(self, texts: Iterable[str]) -> list[str]:
        """The targets in `texts`. Raises InvalidRequest for a path outside of the worktree, or that is none."""
        return [self.target(text) for text in texts]

    def target(self, text: str) -> str:
        """One target."""
        if text.startswith(PREFIXES):
            return text
        if not text or "\0" in text:
            raise InvalidRequest(
                f"cannot claim {text[:_SHOWN_MAX]!r}: it names nothing; give a path, name: or machine:"
            )
        return self._inside(text, *self._split(text))

    def file(self, path: str) -> str:
        """The target that is one file, there or not, whatever characters its name has. Raises InvalidRequest."""
        return self._inside(path, path, "")

    def _inside(self, text: str, literal: str, pattern: str) -> str:
        try:
            real = os.path.realpath(os.path.join(self._directory, literal))
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"cannot claim {text[:_SHOWN_MAX]!r}: {error}; name another path") from None
        root = self.worktree.rstrip("/")
        if real != self.worktree and not real.startswith(root + "/"):
            raise InvalidRequest(
                f"cannot claim {text[:_SHOWN_MAX]!r}: it is {real[:_SHOWN_MAX]}, outside of {self.worktree}; "
                "claim what lies inside, or run this in the repository it belongs to"
            )
        inside = real[len(root) + 1 :]
        if not pattern and os.path.isdir(real):
            pattern = "**"
        parts = [*filter(None, (escaped(inside), pattern))]
        return "path:" + self._normal("/".join(parts), text)

    def _split(self, text: str) -> tuple[str, str]:
        """The part of a path that is meant word for word, and the pattern that begins behind it."""
        if not any(character in text for character in _SPECIAL):
            return text, ""
        if os.path.lexists(os.path.join(self._directory, text)):
            return text, ""
        names = text.split("/")
        first = next(number for number, name in enumerate(names) if any(each in name for each in _SPECIAL))
        literal = "/".join(names[:first])
        if text.startswith("/") and not literal:
            literal = "/"
        return literal or ".", "/".join(names[first:])

    def _normal(self, inside: str, text: str) -> str:
        if inside.isascii():
            return inside.lower() if self._is_folding() else inside
        try:
            inside.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(
                f"cannot claim {text[:_SHOWN_MAX]!r}: its name is not valid UTF-8; rename it"
            ) from None
        from unicodedata import normalize

        composed = normalize("NFC", inside)
        return composed.casefold() if self._is_folding() else composed

    def _is_folding(self) -> bool:
        """Whether the file system of the worktree takes capital letters for small ones."""
        if self._folds is None:
            try:
                self._folds = os.path.samefile(os.path.join(self.worktree, ".git"), os.path.join(self.worktree, ".GIT"))
            except OSError:
                self._folds = False
        return self._folds


def escaped(path: str) -> str:
    """A path as a glob that names just it."""
    return "".join(f"[{each}]" if each in _SPECIAL else each for each in path)
