"""The letters in memory, by box: a view of `$mail` that follows the store's published batches, and what is on its way.

Rule: the view changes only by `put` and `remove`, called for durable changes; it is never ahead of the store. What was
submitted and is not published is counted beside it (`expect`), so that no box outgrows its limits however
many write to it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from cosession.errors import CosessionError
from cosession.messages.limits import MAIL_BOX_BYTES_MAX, MAIL_BOX_LETTERS_MAX, MAIL_BYTES_MAX, MAIL_READ_KEPT
from cosessiond.mail.letters import Held
from cosessiond.store.engine import EntryId

_order = attrgetter("order")


class _Box:
    """The letters of one session, and the sums over those that it has not read."""

    __slots__ = ("letters", "unread", "unread_bytes")

    def __init__(self) -> None:
        self.letters: dict[str, Held] = {}
        self.unread = 0
        self.unread_bytes = 0

    def count(self, held: Held, sign: int) -> None:
        if held.is_unread:
            self.unread += sign
            self.unread_bytes += sign * held.size_bytes


class Boxes:
    """All letters, by box and place."""

    def __init__(self) -> None:
        self._boxes: dict[str, _Box] = {}
        self._places: dict[EntryId, Held] = {}
        self._coming: dict[str, list[int]] = {}  # letters and bytes on their way to a box
        self._coming_bytes = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The sessions that have letters."""
        return iter(list(self._boxes))

    # Following what is durable.

    def put(self, held: Held) -> None:
        """The letter as it is durable now."""
        self.remove(held.entry_id)
        self._places[held.entry_id] = held
        box = self._boxes.setdefault(held.box, _Box())
        box.letters[held.id] = held
        box.count(held, +1)
        self._bytes += held.size_bytes

    def remove(self, id: EntryId) -> None:
        """The letter is no more."""
        held = self._places.pop(id, None)
        if held is None:
            return
        box = self._boxes[held.box]
        if box.letters.get(held.id) == held:
            del box.letters[held.id]
        box.count(held, -1)
        self._bytes -= held.size_bytes
        if not box.letters:
            del self._boxes[held.box]

    # What is there.

    def get(self, box: str, id: str) -> Held | None:
        """The letter with this id in a box."""
        found = self._boxes.get(box)
        return found.letters.get(id) if found is not None else None

    def has(self, box: str) -> bool:
        """Whether a session has any letter, read or not; cheap."""
        return box in self._boxes

    def letters(self, box: str) -> list[Held]:
        """All letters of a session, read ones as well, in the order in which they were sent."""
        found = self._boxes.get(box)
        return sorted(found.letters.values(), key=_order) if found is not None else []

    def unread(self, box: str) -> list[Held]:
        """Those that it has not read."""
        return [each for each in self.letters(box) if each.is_unread] if self.count(box) else []

    def undelivered(self, box: str) -> list[Held]:
        """Those that it was never given."""
        return [each for each in self.letters(box) if each.state == "queued"] if self.count(box) else []

    def count(self, box: str) -> int:
        """How many letters a session has not read; cheap."""
        found = self._boxes.get(box)
        return found.unread if found is not None else 0

    def surplus(self, box: str, reading: Iterable[str]) -> list[Held]:
        """The oldest letters of a box that go when those with the ids `reading` are read as well."""
        reading = set(reading)
        past = [each for each in self.letters(box) if not each.is_unread or each.id in reading]
        return past[: max(0, len(past) - MAIL_READ_KEPT)]

    # What is on its way.

    def refuse_unless_room(self, box: str, name: str, size: int) -> None:
        """Raises CosessionError(quota_exceeded) where another letter of `size` bytes has no place."""
        found = self._boxes.get(box) or _Box()
        letters, coming = self._coming.get(box, (0, 0))
        if found.unread + letters >= MAIL_BOX_LETTERS_MAX:
            has = f"{found.unread + letters} unread letters, the limit is {MAIL_BOX_LETTERS_MAX}"
        elif found.unread_bytes + coming + size > MAIL_BOX_BYTES_MAX:
            has = f"{found.unread_bytes + coming} bytes of unread letters, the limit is {MAIL_BOX_BYTES_MAX}"
        else:
            return
        raise CosessionError(
            f"cannot send to {name}: its box is full, it has {has}; wait until it reads them (cosession inbox), or put "
            "what it should know into the context",
            code="quota_exceeded",
            data={"box": box, "unread": found.unread + letters, "limit": MAIL_BOX_LETTERS_MAX},
        )

    def refuse_unless_room_in_all(self, size: int) -> None:
        """Raises CosessionError(quota_exceeded) where all boxes together would outgrow their limit."""
        if self._bytes + self._coming_bytes + size > MAIL_BYTES_MAX:
            raise CosessionError(
                f"cannot send: all boxes together hold {self._bytes} bytes, the limit is {MAIL_BYTES_MAX}; letters go "
                "when sessions read theirs (cosession inbox), or are recovered (cosession recover)",
                code="quota_exceeded",
                data={"used": self._bytes, "limit": MAIL_BYTES_MAX},
            )

    def expect(self, box: str, size: int, sign: int) -> None:
        """A letter of `size` bytes is on its way to a box (+1), or its outcome is known (-1)."""
        coming = self._coming.setdefault(box, [0, 0])
        coming[0] += sign
        coming[1] += sign * size
        self._coming_bytes += sign * size
        if not coming[0]:
            del self._coming[box]

    @property
    def bytes(self) -> int:
        """What all letters take."""
        return self._bytes


#: What a letter takes beside its text and names, at most, in bytes.
COVER_BYTES: Final = 512
