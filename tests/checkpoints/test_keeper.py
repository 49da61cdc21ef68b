"""The keeper in a virtual world: one chain, ten kept, damage noticed and put aside, what goes with its session."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec import msgpack

from cosession.errors import CosessionError, TooLarge
from cosession.messages.limits import CHECKPOINT_BYTES_MAX, CHECKPOINTS_KEPT
from cosessiond.checkpoints import records
from cosessiond.checkpoints.keeper import Bounds, saved_in
from cosessiond.checkpoints.records import Head
from cosessiond.store.engine import Delete


def test_each_follows_on_the_one_before_and_ten_are_kept(shelved):
    shelved.session("a", project="p")
    saved = [shelved.save("a", task=f"step {number}") for number in range(CHECKPOINTS_KEPT + 3)]
    assert [each.number for each in saved] == list(range(1, CHECKPOINTS_KEPT + 4))
    assert (saved[0].parent, saved[0].parent_hash, saved[0].project) == ("", "", "p")
    for one, next_one in pairwise(saved):
        assert (next_one.parent, next_one.parent_hash) == (one.id, one.hash)
    assert shelved.kept("a") == [each.id for each in saved[3:]]
    last = shelved.history[-1].changes
    assert [change.kind for change in last] == ["put", "put", "delete"], "the oldest leaves with the same batch"
    assert shelved.keeper.judge("a").standing == "VERIFIED"
    shelved.check_followed()


def test_the_hash_is_over_the_content_in_the_order_of_names(shelved):
    """As a client can work it out: MessagePack of all but `hash` and `revision`, members in order."""
    shelved.session("a")
    saved = shelved.save("a", task="t", done=["x"], z=1, b={"k": [1.5, None]})
    raw = shelved.store.get(records.entry_id(saved.id)).value
    value = msgpack.decode(raw)
    body = msgpack.Encoder(order="sorted").encode(value["checkpoint"])
    assert records.hash_of(body) == value["hash"] == saved.hash
    assert saved.extra == {"z": 1, "b": {"k": [1.5, None]}}
    assert saved.revision == shelved.store.revision


def test_two_at_once_make_one_chain(shelved):
    shelved.session("a")
    answers = [shelved.ask_save("a", task=str(number)) for number in range(5)]
    ids = [saved_in(shelved.wait(answer)) for answer in answers]
    found = sorted((shelved.keeper.content(id) for id in ids), key=lambda each: each.number)
    assert [each.number for each in found] == [1, 2, 3, 4, 5]
    assert [each.parent for each in found] == ["", *(each.id for each in found[:-1])]


def test_nobody_saves_for_a_session_that_ended_and_what_is_too_large_leaves_no_trace(shelved):
    shelved.session("a")
    with pytest.raises(TooLarge, match=r"cannot save a checkpoint of .* bytes") as caught:
        shelved.save("a", task="x" * CHECKPOINT_BYTES_MAX)
    assert caught.value.data["limit"] == CHECKPOINT_BYTES_MAX
    assert shelved.kept("a") == []
    shelved.close("a")
    with pytest.raises(CosessionError) as ended:
        shelved.save("a")
    assert ended.value.code == "session_ended"


def test_a_repeat_is_answered_with_the_checkpoint_of_the_first_time(shelved):
    shelved.session("a")
    first = shelved.wait(shelved.ask_save("a", request_id="r1"))
    again = shelved.wait(shelved.ask_save("a", request_id="r1"))
    assert again.repeated
    assert [saved_in(again)] == [saved_in(first)] == shelved.kept("a")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_damaged_one_is_told_and_put_aside_and_the_one_before_is_taken(shelved, restarted):
    shelved.session("a")
    good, bad = shelved.save("a", task="one"), shelved.save("a", task="two")
    if restarted:  # it is found by a start
        shelved.keeper._set_aside = lambda _: None
    shelved.spoil(bad.id)
    if restarted:
        shelved.restart()
    assert shelved.quarantined() == [bad.id]
    assert shelved.kept("a") == [good.id]
    assert shelved.damage[-1] == f"checkpoint {bad.id}: its hash does not match"
    found = shelved.keeper.judge("a")
    assert (found.standing, found.chosen.id) == ("RECONSTRUCTED", good.id)
    assert shelved.keeper.content(good.id).task == "one"
    assert "number 2" in " ".join(found.evidence)
    again = shelved.save("a", task="three")
    assert (again.number, again.parent, again.parent_hash) == (3, bad.id, bad.hash), "the chain says what is missing"
    assert shelved.keeper.judge("a").standing == "VERIFIED"
    shelved.check_followed()


def test_a_missing_newest_is_noticed_by_the_head_and_an_only_one_leaves_nothing(shelved):
    shelved.session("a")
    first, second = shelved.save("a"), shelved.save("a")
    shelved.lose(second.id)
    found = shelved.keeper.judge("a")
    assert (found.standing, found.chosen.id) == ("RECONSTRUCTED", first.id)
    shelved.lose(first.id)
    found = shelved.keeper.judge("a")
    assert (found.standing, found.chosen) == ("UNKNOWN", None)
    assert found.evidence == (f"{second.id} is missing",)


def test_the_cascade_tells_of_it(shelved):
    shelved.session("a")
    assert shelved.registry.explain("a").verdict.recoverability == "none"
    saved = shelved.save("a")
    shelved.die("a")
    found = shelved.registry.explain("a")
    assert (found.verdict.ending, found.verdict.recoverability) == ("crashed", "full")
    layer = found.layers[2]
    assert (layer.layer, layer.signal) == ("checkpoint", "valid")
    assert layer.evidence == f"VERIFIED; {saved.id}, number 1: hash and chain hold"
    assert "checkpoint: VERIFIED" in "\n".join(shelved.record("a").evidence)
    shelved.spoil(saved.id)
    assert shelved.registry.explain("a").verdict.recoverability == "damaged"


def test_what_goes_with_the_record_of_its_session(shelved):
    shelved.session("a")
    shelved.save("a")
    shelved.die("a")
    record = ("$sessions", "global", "a")
    delete = shelved.store.batch(shelved.store.origin("test"), [], [Delete(record)])
    shelved.store.submit(delete, lambda _: None)
    shelved.world.run_until_idle()
    assert list(shelved.store.scan(records.SPACE, "global", "")) == []
    shelved.check_followed()


def test_when_all_are_too_many_the_oldest_go_that_are_nobodys_last(make_shelved):
    shelved = make_shelved(bounds=Bounds(all=4))
    for id in ("a", "b"):
        shelved.session(id)
    first = [shelved.save("a"), shelved.save("a"), shelved.save("b")]
    shelved.save("b")
    shelved.save("b")
    assert shelved.kept("a") == [first[1].id]
    shelved.die("b")
    for id in ("c", "d", "e"):
        shelved.session(id)
        shelved.save(id)
    assert len(shelved.kept("a")) == 1, "the last of a live session stays"
    assert shelved.kept("b") == [], "that of an ended one goes at last"
    narrow = make_shelved(bounds=Bounds(all=1))
    narrow.session("x")
    narrow.session("y")
    narrow.save("x")
    with pytest.raises(CosessionError) as full:
        narrow.save("y")
    assert full.value.code == "store_full"


def test_of_the_damaged_the_newest_few_are_kept(make_shelved):
    shelved = make_shelved(bounds=Bounds(quarantined=2))
    shelved.session("a")
    spoiled = []
    for _ in range(4):
        saved = shelved.save("a")
        shelved.spoil(saved.id)
        spoiled.append(saved.id)
    assert sorted(shelved.quarantined()) == sorted(spoiled[-2:])


def test_events_are_counted_until_the_next_checkpoint(shelved):
    shelved.session("a")
    counting = shelved.keeper.counting
    assert [counting.add("a", 1), counting.add("a", 2), counting.add("a", 0)] == [1, 3, 3]
    shelved.save("a")
    assert counting.add("a", 0) == 0


# -- a seeded bug ------------------------------------------------------------------------------------------------------


def headless(keeper):
    """The head says whatever is there."""
    shelf = keeper.shelf

    def head(session):
        newest = shelf.get(shelf.newest(session))
        return Head(newest.id, newest.summary.hash, newest.summary.number) if newest else None

    shelf.head = head


def test_a_keeper_that_trusts_its_head_would_not_notice_the_loss(shelved):
    shelved.session("a")
    second = [shelved.save("a"), shelved.save("a")][1]
    headless(shelved.keeper)
    shelved.lose(second.id)
    assert shelved.keeper.judge("a").standing == "VERIFIED", "what the head is for"
