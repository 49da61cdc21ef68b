"""watch and unwatch: the reply first, then the events of the watch on the same connection."""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError, EpochChanged, InvalidRequest
from cosession.messages import watches as messages
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.store.watch import Watcher


def watch(core: Core, call: Call, request: messages.Watch) -> None:
    """Begin a watch. What is wrong is found before the reply; events follow it."""
    if request.key and request.prefix:
        raise InvalidRequest("cannot watch both a key and a prefix; choose one, or use two watches")
    admission.revision(request.start_revision, "start_revision")
    if request.epoch and request.epoch != core.store.epoch:
        raise EpochChanged(
            f"cannot resume: revision {request.start_revision} is of epoch {request.epoch[:40]!r}, the store is in "
            f"{core.store.epoch} now; take a new snapshot",
            data={"epoch": core.store.epoch},
        )
    if request.key:
        admission.readable(core, request.space, request.project, request.key)
    else:
        admission.check_place(core, request.space, request.project, request.prefix)
    core.watches.admit(request.start_revision)
    conversation = call.conversation
    watcher = Watcher(
        conversation.new_watch_id(),
        conversation,
        (request.space, request.project),
        prefix=request.key or request.prefix,
        exact=bool(request.key),
    )
    conversation.watches[watcher.id] = watcher
    call.reply(messages.WatchReply(revision=core.store.revision, watch=watcher.id, epoch=core.store.epoch))
    core.watches.open(watcher, request.start_revision)


def unwatch(core: Core, call: Call, request: messages.Unwatch) -> messages.UnwatchReply:
    """End a watch of this connection."""
    if call.conversation.watches.pop(request.watch, None) is None:
        raise CosessionError(
            f"cannot end watch {request.watch}: this connection has none of that number", code="not_found"
        )
    core.watches.close(call.conversation, request.watch)
    return messages.UnwatchReply(revision=core.store.revision)


ROWS: Final = (
    Row(messages.Watch, Access.READ, watch),
    Row(messages.Unwatch, Access.READ, unwatch),
)
