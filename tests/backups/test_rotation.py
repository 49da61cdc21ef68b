"""Which backups stay: stated as properties over any set of them, each shown to fail for a rotation that is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosessiond.backups import rotation
from cosessiond.backups.rotation import DAY_MS, HOUR_MS, WEEK_MS, Keep, keep
from cosessiond.store.backup import Manifest, Reason

NOW_MS = 2_000 * WEEK_MS + 12_345
Rotation = Callable[[dict[str, Manifest], int, Keep], tuple[list[str], list[str]]]


def manifest(revision: int, age_ms: int, size: int = 1, *, verified: bool = True, schema: int = 2) -> Manifest:
    reason: Reason = "scheduled"
    return Manifest(
        epoch="e",
        revision=revision,
        entries=0,
        size_bytes=size,
        sha256="",
        schema=schema,
        version="0",
        time_ms=NOW_MS - age_ms,
        reason=reason,
        verified=verified,
        chain_hash="",
        state_hash="",
    )


ages = st.one_of(st.integers(-HOUR_MS, 3 * HOUR_MS), st.integers(0, 8 * DAY_MS), st.integers(0, 6 * WEEK_MS))
backups = st.lists(
    st.builds(
        manifest,
        revision=st.integers(0, 30),
        age_ms=ages,
        size=st.integers(1, 50),
        verified=st.sampled_from([True, True, True, False]),
        schema=st.sampled_from([2, 2, 2, 1]),
    ),
    max_size=25,
).map(lambda found: {f"b{number:02}": each for number, each in enumerate(found)})
limits = st.builds(
    Keep,
    last=st.integers(1, 4),
    hourly=st.integers(0, 5),
    daily=st.integers(0, 4),
    weekly=st.integers(0, 4),
    bytes_max=st.integers(0, 400) | st.just(1 << 60),
)
UNBOUNDED = Keep(bytes_max=1 << 60)


def case(random: Random) -> tuple[dict[str, Manifest], Keep]:
    """Some twenty backups, mostly in the order of their ages."""
    span = random.choice([3 * HOUR_MS, 3 * DAY_MS, 5 * WEEK_MS])
    found = {}
    for number in range(random.randrange(25)):
        age_ms = random.randrange(span)
        revision = random.randrange(30) if random.random() < 0.2 else 10**6 - age_ms // HOUR_MS
        verified, schema = random.random() < 0.8, 1 if random.random() < 0.1 else 2
        found[f"b{number:02}"] = manifest(revision, age_ms, random.randrange(1, 50), verified=verified, schema=schema)
    most = random.choice([30, 100, 1 << 60])
    some = random.randrange
    return found, Keep(last=some(1, 4), hourly=some(5), daily=some(4), weekly=some(4), bytes_max=most)


def order(found: dict[str, Manifest]) -> list[str]:
    return sorted(found, key=lambda name: (found[name].revision, found[name].time_ms, name))


# -- the properties: each returns what is wrong, "" when all is well -------------------------------------------------


def divides(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    kept, dropped = rotate(found, NOW_MS, most)
    return "" if sorted(kept + dropped) == sorted(found) else "each stays or goes, once"


def newest_stays(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    valid = [name for name in order(found) if found[name].verified]
    kept, _ = rotate(found, NOW_MS, most)
    return "" if not valid or valid[-1] in kept else "the newest valid one has gone"


def weighs(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    kept, _ = rotate(found, NOW_MS, most)
    size = sum(found[name].size_bytes for name in kept)
    return "" if size <= most.bytes_max or len(kept) == 1 else f"{size} bytes stay"


def last_stay(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    most = Keep(last=most.last, hourly=0, daily=0, weekly=0, bytes_max=1 << 60)
    valid = [name for name in order(found) if found[name].verified]
    kept, _ = rotate(found, NOW_MS, most)
    missing = set(valid[-most.last :]) - set(kept)
    return f"of the last {most.last} went {missing}" if missing else ""


def spans_stay(rotate: Rotation, found: dict[str, Manifest], _: Keep) -> str:
    """Whatever valid backup there was in the spans, one of the same hour, day or week that is as new stays."""
    kept = rotate(found, NOW_MS, UNBOUNDED)[0]
    for name, each in found.items():
        for span, count in ((HOUR_MS, 24), (DAY_MS, 7), (WEEK_MS, 4)):
            if not each.verified or each.time_ms <= NOW_MS - span * count:
                continue
            same = [
                other
                for other in kept
                if found[other].verified and found[other].time_ms // span == each.time_ms // span
            ]
            if not any(order(found).index(other) >= order(found).index(name) for other in same):
                return f"nothing stands for {name}"
    return ""


def thins_out(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    """No more stay than are promised: a bound on the count, whatever there was."""
    kept, _ = rotate(found, NOW_MS, most)
    valid = [name for name in kept if found[name].verified]
    most_valid = most.last + (most.hourly + 3) + (most.daily + 1) + (most.weekly + 1) + 1
    return "" if len(valid) <= most_valid else f"{len(valid)} stay"


def old_go(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    kept, _ = rotate(found, NOW_MS, most)
    valid = [name for name in order(found) if found[name].verified]
    newest = {found[name].schema: name for name in valid}.values()
    span = max(HOUR_MS * most.hourly, DAY_MS * most.daily, WEEK_MS * most.weekly)
    for name in kept:
        if found[name].time_ms <= NOW_MS - span and name not in newest and name not in valid[-most.last :]:
            return f"{name} is too old"
    return ""


def schema_stays(rotate: Rotation, found: dict[str, Manifest], _: Keep) -> str:
    kept = rotate(found, NOW_MS, UNBOUNDED)[0]
    newest = {found[name].schema: name for name in order(found) if found[name].verified}
    missing = set(newest.values()) - set(kept)
    return f"no way back to the schema of {missing}" if missing else ""


def again(rotate: Rotation, found: dict[str, Manifest], most: Keep) -> str:
    """What stays, stays: doing it again at once drops nothing."""
    kept, _ = rotate(found, NOW_MS, most)
    return "" if rotate({name: found[name] for name in kept}, NOW_MS, most)[0] == kept else "a second pass drops more"


PROPERTIES = (divides, newest_stays, weighs, last_stay, spans_stay, thins_out, old_go, schema_stays, again)


@given(backups, limits)
@settings(max_examples=60, deadline=None)
def test_every_property_holds(found: dict[str, Manifest], most: Keep) -> None:
    for prove in PROPERTIES:
        wrong = prove(keep, found, most)
        assert not wrong, f"{prove.__name__}: {wrong}"


#: Rotations that are wrong, as one replacement in the source of `keep`.
SEEDED = {
    "the newest by time": (
        "(manifests[name].revision, manifests[name].time_ms, name)",
        "(manifests[name].time_ms, name)",
    ),
    "damaged ones count": ("if manifests[name].verified]\n    newest", "]\n    newest"),
    "room before the newest": ("if name in wanted and name not in newest:", "if name in wanted:"),
    "no bound of bytes": ("if size <= limits.bytes_max:", "if True:"),
    "one too few": (
        "valid[len(valid) - min(limits.last, len(valid)) :]",
        "valid[len(valid) - min(limits.last, len(valid)) + 1 :]",
    ),
    "the first of each hour": ("_of_each(valid, ", "_of_each(valid[::-1], "),
    "no weeks": (", (WEEK_MS, limits.weekly))", ")"),
    "no way back": ("wanted = {*newest, *pinned, ", "wanted = {*newest, "),
    "nothing is too old": ("oldest_ms=now_ms - span_ms * count", "oldest_ms=0"),
    "what goes is lost": ("if name not in wanted]", "if name not in wanted][1:]"),
}


@pytest.mark.parametrize("bug", SEEDED)
def test_a_wrong_rotation_is_caught(bug: str) -> None:
    right, wrong = SEEDED[bug]
    source = inspect.getsource(keep)
    assert source.count(right) == 1, "the seed fits the code"
    names = dict(vars(rotation))
    exec(compile("from __future__ import annotations\n" + source.replace(right, wrong), bug, "exec"), names)  # noqa: S102 - ours

    random = Random(bug)
    assert any(prove(names["keep"], *case(random)) for _ in range(500) for prove in PROPERTIES), "nobody noticed"


def test_a_month_of_hourly_backups() -> None:
    """As the README says: the last 3, 24 hourly, 7 daily, 4 weekly."""
    found = {f"b{hour:04}": manifest(2_000 - hour, hour * HOUR_MS) for hour in range(1_500)}
    kept, dropped = keep(found, NOW_MS, UNBOUNDED)
    assert kept[-24:] == [f"b{hour:04}" for hour in reversed(range(24))]
    assert 24 + 6 + 3 <= len(kept) <= 24 + 7 + 4
    assert len(kept) + len(dropped) == 1_500
    assert keep({}, NOW_MS, UNBOUNDED) == ([], [])
