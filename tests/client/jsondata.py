"""JSON values for generated tests: small, nested, with few names so that two of them have parts in common."""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "", "~", "x/y", "0"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2), st.sampled_from([0.0, 1.0, 0.5]), st.sampled_from(["", "a", "b"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)


def resolved(value, path):
    """What a JSON pointer points to; raises KeyError or IndexError for nothing. Written from RFC 6901."""
    for token in path.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def exact(value):
    """A value that equals another one only if both are the same JSON data: 1, 1.0 and true are three."""
    if isinstance(value, dict):
        return ("object", frozenset((name, exact(part)) for name, part in value.items()))
    if isinstance(value, list):
        return ("list", tuple(map(exact, value)))
    return (type(value).__name__, value)
