"""Which backups stay: the newest few, then ever fewer of what is older, within a number of bytes.

Of those that can be restored stay the last three; of each of the last 24 hours, 7 days and 4 weeks the newest; and of
each older schema the newest, which is what a downgrade needs. What is damaged stays for as many days as are kept, for
whoever wants to look at it. When all that has more than so many bytes, the damaged go first, then the oldest, then
those of older schemas. The newest that can be restored always stays, whatever it weighs.

Rule: pure. The newest is the one of the highest revision, which never goes back, and not of the latest time, which may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from cosessiond.store.backup import Manifest

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS


class Keep(Struct, frozen=True, kw_only=True):
    """How much is kept: counts, and bytes in all."""

    last: int = 3
    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    bytes_max: int


def keep(manifests: Mapping[str, Manifest], now_ms: int, limits: Keep) -> tuple[list[str], list[str]]:
    """The names that stay and those that go, each oldest first."""
    order = sorted(manifests, key=lambda name: (manifests[name].revision, manifests[name].time_ms, name))
    valid = [name for name in order if manifests[name].verified]
    newest = valid[-1:]
    schemas = {manifests[name].schema: name for name in valid}  # of each the newest
    pinned = {name for schema, name in schemas.items() if schema != manifests[newest[0]].schema}
    wanted = {*newest, *pinned, *valid[len(valid) - min(limits.last, len(valid)) :]}
    for span_ms, count in ((HOUR_MS, limits.hourly), (DAY_MS, limits.daily), (WEEK_MS, limits.weekly)):
        wanted |= _of_each(valid, manifests, span_ms, oldest_ms=now_ms - span_ms * count)
    damaged = [name for name in order if not manifests[name].verified]
    wanted |= {name for name in damaged if manifests[name].time_ms > now_ms - DAY_MS * limits.daily}
    # Who goes first for want of room stands first.
    leaving = [*damaged, *(name for name in valid if name not in pinned), *sorted(pinned)]
    size = sum(manifests[name].size_bytes for name in wanted)
    for name in leaving:
        if size <= limits.bytes_max:
            break
        if name in wanted and name not in newest:
            wanted.remove(name)
            size -= manifests[name].size_bytes
    return [name for name in order if name in wanted], [name for name in order if name not in wanted]


def _of_each(names: Iterable[str], manifests: Mapping[str, Manifest], span_ms: int, *, oldest_ms: int) -> set[str]:
    """The last of `names` in each span of time that is not over before `oldest_ms`."""
    found = {manifests[name].time_ms // span_ms: name for name in names if manifests[name].time_ms > oldest_ms}
    return set(found.values())
