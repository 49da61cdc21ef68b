"""What `mypy --strict` must refuse: each line ends with the codes of its errors, sorted. It is checked, never run."""

from __future__ import annotations

import cosession
from cosession import aio


def blocking(client: cosession.Client) -> None:
    """Wrong names, types and uses."""
    client.put("a", 1, ttl="10")  # call-arg
    client.put("a", 1, ttl_s="10")  # arg-type
    client.get(b"a")  # arg-type
    print(client.get("a").value)  # union-attr
    client.put("a", 1).version = 2  # misc
    client.update("a", 3)  # arg-type
    client.add("n", "1")  # arg-type
    client.put("a", 1, merge="two-way")  # arg-type
    cosession.connect("/socket", "project")  # call-arg
    cosession.nonsense()  # attr-defined
    for change in client.watch(prefix="a"):
        print(change.valeu)  # union-attr union-attr


async def awaited(client: aio.Client) -> int:
    """What is not awaited has no version; what is of the other flavour does not fit."""
    with client:  # attr-defined attr-defined
        pass
    other: cosession.Client = client  # assignment
    other.ping()
    return client.put("a", 1).version  # attr-defined no-any-return
