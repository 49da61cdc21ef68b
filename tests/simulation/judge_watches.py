"""Oracles over watches: every change once, in order, whole batches, through all resumptions, or `compacted`.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cosession.messages.watches import WatchEvent
from cosession.model import Change
from simulation.history import History, Segment, Watching
from simulation.model import Model


def watched(history: History, model: Model) -> Iterator[str]:
    """Each watcher saw exactly what it selects, from where it began to where it stands."""
    for watching in history.watches:
        matching = [row.revision for row in model.rows if any(watching.selects(c.id) for c in row.outcome.changes)]
        for segment in watching.segments:
            for sentence in _segment(watching, segment, matching, model, history):
                yield f"watch {watching.prefix!r} of {watching.client} from {segment.start}: {sentence}"


def _segment(
    watching: Watching, segment: Segment, matching: list[int], model: Model, history: History
) -> Iterator[str]:
    position = segment.start - 1
    snapshot: list[object] = []
    live = segment.start > 0
    for index, event in enumerate(segment.events):
        if event.kind != "end" and not position <= event.revision <= segment.ceilings[index]:
            yield f"{event.kind} at {event.revision} after {position}, durable was {segment.ceilings[index]}"
        if event.kind in ("snapshot", "snapshot_end"):
            if live:
                yield f"{event.kind} at {event.revision} in the middle of live changes"
            if position == -1 and event.revision < segment.floor:
                yield f"a snapshot at {event.revision}, shown was {segment.floor}"
            if position not in (-1, event.revision):
                yield f"a snapshot at {position} went on at {event.revision}"
            position = event.revision
            snapshot += event.entries
            if event.kind == "snapshot_end":
                live = True
                found = model.scan(watching.space, watching.project, watching.prefix, position)
                wanted = [standing.public(id[2]) for id, standing in found if watching.selects(id)]
                if snapshot != wanted:
                    yield f"the snapshot at {position} is {snapshot}, the store had {wanted}"
            continue
        if not live:
            yield f"{event.kind} at {event.revision} before the end of the snapshot"
        yield from _missed(position, event, matching)
        if event.kind == "changes":
            yield from _changes(watching, event, position, model, segment.arrived_s[index])
            position = event.revision
        elif event.kind == "end":
            yield from _ended(event, position, segment.compacts[index])
        else:
            position = max(position, event.revision)
    if not segment.over and history.quiet is not None:
        end = history.quiet.revision
        late = [revision for revision in matching if position < revision <= end]
        if late or not live:
            yield f"it stands at {position} (live: {live}) at rest, and never saw {late}"


def _missed(position: int, event: WatchEvent, matching: list[int]) -> Iterator[str]:
    """What lies between the last event and this one is not for this watch."""
    first = event.revision if event.kind == "changes" else event.revision + 1
    missed = [revision for revision in matching if position < revision < first]
    if missed:
        yield f"{event.kind} at {event.revision} after {position}: missed {missed}"


def _changes(watching: Watching, event: WatchEvent, position: int, model: Model, arrived_s: float) -> Iterator[str]:
    if event.revision <= position:
        yield f"changes at {event.revision} came again, or too late: it stood at {position}"
        return
    if event.revision > len(model.rows):
        yield f"changes at {event.revision}, which does not exist"
        return
    outcome = model.rows[event.revision - 1].outcome
    wanted: list[Change] = []
    purged = {each.key for each in event.changes if each.purged}
    for change in outcome.changes:
        if watching.selects(change.id):
            gone = change.id[2] in purged and model.purges.may(change.id, event.revision, arrived_s)
            standing = model.at(change.id, event.revision)
            wanted.append(
                Change(
                    kind=change.kind,
                    key=change.id[2],
                    value=standing.public("").value if standing and not gone else None,
                    version=change.version,
                    create_revision=change.create_revision,
                    mod_revision=event.revision,
                    session=outcome.origin.session,
                    time=outcome.time_ms / 1000,
                    purged=gone,
                )
            )
    if event.changes != wanted:
        yield f"changes at {event.revision} are {event.changes}, committed was {wanted}"


def _ended(event: WatchEvent, position: int, compact: int) -> Iterator[str]:
    resume = event.data.get("resume_revision", 0)
    if resume < position + 1:
        yield f"it ended at {position} and was told to resume at {resume}"
    if event.code == "compacted" and resume >= compact:
        yield f"it was told `compacted` at {resume}, the window begins at {compact}"
