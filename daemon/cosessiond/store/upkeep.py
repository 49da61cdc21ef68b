"""Upkeep as the store's thread does it: how far it is behind, without what holds up no commit, and each piece of it.

Rule: it knows one engine and no queue; what to do next, and how much of it, is said by `store.pacing`.
"""

from __future__ import annotations

from cosessiond.store import rationing
from cosessiond.store.engine import Engine
from cosessiond.store.pacing import Load, Piece
from cosessiond.store.room import Room


class Upkeep:
    """Of one engine."""

    def __init__(self, engine: Engine, room: Room) -> None:
        self._engine = engine
        self._room = room
        # What holds up no commit: what could not be done for want of room, and what was to be trimmed at the start.
        self._spared = Load(surplus_batches=engine.surplus.batches, surplus_bytes=engine.surplus.bytes)
        self._hopeless = False  # the last trimming found no room
        self._trimming = False  # begun and not done

    def load(self) -> Load:
        """How far it is behind."""
        engine = self._engine
        batches, size, asked, ended = engine.surplus
        rows, unmoved = engine.unsettled_rows, engine.unmoved_bytes
        was = self._spared
        spared = self._spared = Load(
            min(was.unsettled_rows, rows),
            min(was.unmoved_bytes, unmoved),
            min(was.surplus_batches, batches),
            min(was.surplus_bytes, size),
        )
        return Load(
            rows - spared.unsettled_rows,
            unmoved - spared.unmoved_bytes,
            batches - spared.surplus_batches,
            size - spared.surplus_bytes,
            is_asked=not self._hopeless and any((asked, ended, spared.surplus_batches, spared.surplus_bytes)),
            is_unfinished=self._trimming and any(engine.surplus),
        )

    def hope(self) -> None:
        """There may be room again, or something else may be asked to go: it is tried once more."""
        self._hopeless = False

    def tend(self, piece: Piece) -> None:
        """One transaction. What there is no room for on the disk is left alone until as much again has gathered."""
        engine = self._engine
        if not piece.trim_rows:
            done = rationing.tend(self._room, lambda: engine.settle(piece.settle_rows))
            self._spared = self._spared._replace(unsettled_rows=0 if done else engine.unsettled_rows)
            return
        self._trimming = engine.trim(piece.trim_rows, settle_rows=piece.settle_rows) > 0
        self._hopeless = not self._trimming and any(engine.surplus)
        if self._hopeless:
            left = engine.surplus
            self._spared = self._spared._replace(surplus_batches=left.batches, surplus_bytes=left.bytes)

    def move(self) -> None:
        """The checkpoint, likewise."""
        rationing.tend(self._room, self._moves)
        self._spared = self._spared._replace(unmoved_bytes=self._engine.unmoved_bytes)

    def _moves(self) -> bool:
        before = self._engine.unmoved_bytes
        self._engine.move()
        return self._engine.unmoved_bytes < before
