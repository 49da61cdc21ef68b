"""What clients do with mail: write to sessions that live, die and are replaced, take what is new, read some of it.

Rule: every letter says which call wrote it, by which it is known again wherever it turns up.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cosession.messages.mail import Inbox, Read, Send
from cosession.model import GLOBAL
from simulation.client import Client, Held
from simulation.history import Call


def act(client: Client) -> None:
    """One step of one client."""
    live = [held for held in client.sessions if not held.over]
    if not live or client.link is None:
        return
    held = client.random.choice(live)
    point = client.random.random()
    if point < 0.5:
        for _ in range(client.random.choice((1, 1, 3))):
            _send(client, held)
    elif point < 0.75:
        client.call(Inbox(new=True, session=held.id, limit=client.random.choice((1, 3, 50))), partial(_taken, client))
    elif point < 0.9:
        client.call(Inbox(session=held.id, all=client.random.random() < 0.3))
    else:
        client.call(Read(all=True, session=held.id))


def _send(client: Client, held: Held) -> None:
    random = client.random
    number = len(client.history.calls) + 1
    known = client.history.sessions
    client.write(
        Send(
            **({"all": True} if not known or random.random() < 0.2 else {"to": random.choice(known)}),
            text=f"{client.name}-{number}",
            project=GLOBAL,
            session=held.id,
            request_id=f"{client.name}-{number}" if random.random() < 0.85 else "",
        )
    )


def _taken(client: Client, call: Call) -> None:
    """Who was given letters reads some of them, sometimes twice."""
    reply: Any = call.reply
    if reply is None or not reply.letters:
        return
    for _ in range(client.random.choice((0, 1, 1, 2))):
        ids = [letter.id for letter in reply.letters if client.random.random() < 0.7]
        if ids:
            client.call(Read(ids=ids, session=reply.box))
