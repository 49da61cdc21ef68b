"""Whether a session was taken over as it was when it died: its checkpoint, its claims, its letters, and the document.

Rule: pure, and every sentence begins with the part that it is about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class World(NamedTuple):
    """What a `session` had when it was killed: the id and the hash of its `checkpoint` and the `state` in it; its
    `claims`, by target, with id and token; the id and text of its `letters`, in order.
    """

    session: str
    checkpoint: str
    hash: str
    state: dict[str, Any]
    claims: dict[str, tuple[str, int]]
    letters: tuple[tuple[str, str], ...] = ()


class Taken(NamedTuple):
    """What the heir has: the answer to `session.recover`, the claims it `held` afterwards, its `inbox`; and how many
    claims and letters were `left` with the dead. All as plain data.
    """

    reply: dict[str, Any]
    held: list[dict[str, Any]]
    inbox: list[dict[str, Any]]
    left: tuple[int, int]


def judge(world: World, taken: Taken) -> list[str]:
    """What of a world was not taken over as it was, in sentences; nothing when all of it was."""
    return [*_judge_checkpoint(world, taken), *_judge_claims(world, taken), *_judge_letters(world, taken)]


def _judge_checkpoint(world: World, taken: Taken) -> Iterator[str]:
    found = taken.reply["checkpoint"]
    if found is None or taken.reply["standing"] != "VERIFIED":
        yield f"checkpoint: it is {taken.reply['standing']}, {taken.reply['evidence']}"
        return
    if (found["id"], found["hash"]) != (world.checkpoint, world.hash):
        yield f"checkpoint: it is {found['id']} with hash {found['hash']}, not {world.checkpoint} with {world.hash}"
    content = {key: found[key] if key in found else found["extra"].get(key) for key in world.state}
    if _digest(content) != _digest(world.state):
        yield "checkpoint: its content is not what was saved"


def _judge_claims(world: World, taken: Taken) -> Iterator[str]:
    for what, claims in (("answer", taken.reply["claims"]), ("list", taken.held)):
        found = {each["targets"][0]: each for each in claims}
        if found.keys() != world.claims.keys() or len(claims) != len(found):
            yield f"claims: the {what} has {len(claims)} of {len(world.claims)}: {sorted(found)}"
        for target, each in found.items():
            id, token = world.claims.get(target, ("", 0))
            if each["state"] != "held" or each["adopted_from"] != id:
                yield f"claims: {target} in the {what} is {each['state']}, adopted from {each['adopted_from']!r}"
            if each["token"] <= token:
                yield f"claims: {target} in the {what} has token {each['token']} after {token}"
        if len({each["token"] for each in claims}) != len(claims):
            yield f"claims: two of the {what} share a token"
    if taken.left[0]:
        yield f"claims: {taken.left[0]} are still of the dead"


def _judge_letters(world: World, taken: Taken) -> Iterator[str]:
    found = tuple((each["id"], each["text"]) for each in taken.inbox)
    if _digest(found) != _digest(world.letters):
        yield f"letters: {[id for id, _ in found]} of {[id for id, _ in world.letters]}, or with other texts"
    if taken.reply["letters"] != len(world.letters):
        yield f"letters: the answer counts {taken.reply['letters']}"
    if taken.left[1]:
        yield f"letters: {taken.left[1]} are still with the dead"


def judge_document(world: World, taken: Taken, text: str) -> list[str]:
    """What a recovery as it is written down leaves out."""
    wanted = [f"session `{world.session}`", "VERIFIED", world.state["task"], f"Unread letters: {len(world.letters)}."]
    wanted += [f"{each['targets'][0]}: token {each['token']}" for each in taken.held]
    return [f"document: it does not say {word!r}" for word in wanted if word not in text]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
