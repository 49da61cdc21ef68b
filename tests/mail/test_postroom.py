"""The post room in a virtual world: boxes and their bounds, restarts, deaths and successors, and who is meant."""

from __future__ import annotations

import pytest

from cosession.errors import CosessionError
from cosession.messages.limits import (
    MAIL_BOX_BYTES_MAX,
    MAIL_BOX_LETTERS_MAX,
    MAIL_BYTES_MAX,
    MAIL_READ_KEPT,
    MAIL_RECIPIENTS_MAX,
)
from cosessiond.mail import boxes, letters, postroom
from cosessiond.mail.letters import SPACE


def refused(function, *arguments, **options):
    with pytest.raises(CosessionError, match="cannot ") as caught:
        function(*arguments, **options)
    return caught.value


# -- a letter's life ---------------------------------------------------------------------------------------------------


def test_a_letter_is_queued_handed_over_once_and_read(mail):
    mail.session("a", name="otter")
    mail.session("b")
    sent = mail.send("a", "b", "look at src/parser.py", importance="high")
    (held,) = mail.post.undelivered("b")
    letter = mail.post.open(held)
    assert (letter.sender, letter.sender_name, letter.to, letter.state) == ("a", "otter", "b", "queued")
    assert (letter.importance, letter.thread) == ("high", letter.id)
    assert letter.id == sent.writes[0].id[2].partition("/")[2]
    assert mail.given("b") == ["look at src/parser.py"]
    assert mail.given("b") == []
    assert mail.texts("b") == ["look at src/parser.py"], "handed over is not read"
    mail.read("b")
    assert mail.texts("b") == []
    (held,) = mail.post.boxes.letters("b")
    letter = mail.post.open(held)
    assert letter.state == "read"
    assert letter.sent_at <= letter.delivered_at <= letter.read_at


def test_two_that_ask_at_once_are_given_different_letters(mail):
    mail.session("a")
    mail.session("b")
    for number in range(4):
        mail.send("a", "b", str(number))
    mail.commits.hold = True
    first = mail.ask(mail.post.hand_over, "b", [held.id for held in mail.post.undelivered("b")[:3]])
    second = mail.ask(mail.post.hand_over, "b", [held.id for held in mail.post.undelivered("b")])
    mail.commits.release()
    given = [[mail.post.open(held).text for held in mail.wait(each)] for each in (first, second)]
    assert given == [["0", "1", "2"], ["3"]]


def test_letters_are_in_the_order_in_which_they_were_sent_whatever_the_wall_clock_does(mail):
    mail.session("a")
    mail.session("b")
    for number in range(6):
        mail.world.clock.step_wall(-3_600_000 if number % 2 else 7_200_000)
        mail.send("a", "b", str(number))
    assert mail.texts("b") == list("012345")
    mail.restart()
    assert mail.texts("b") == list("012345")


def test_of_read_letters_the_newest_are_kept(mail):
    mail.session("a")
    mail.session("b")
    for number in range(MAIL_READ_KEPT + 5):
        mail.send("a", "b", str(number))
    mail.read("b")
    kept = [mail.post.open(held).text for held in mail.post.boxes.letters("b")]
    assert kept == [str(number) for number in range(5, MAIL_READ_KEPT + 5)]
    mail.read("b", *mail.ids("b"))
    assert len(mail.ids("b")) == MAIL_READ_KEPT, "reading again reads nothing"


def test_a_whole_box_is_read_at_once(mail):
    mail.session("a")
    mail.session("b")
    for number in range(MAIL_BOX_LETTERS_MAX):
        mail.send("a", "b", str(number))
    mail.read("b")
    assert mail.post.boxes.count("b") == 0
    assert len(mail.ids("b")) == MAIL_READ_KEPT


def test_letters_survive_a_kill_as_far_as_they_went(mail):
    mail.session("a")
    mail.session("b")
    mail.send("a", "b", "1")
    mail.send("a", "b", "2")
    mail.given("b", 1)
    mail.restart()
    mail.check_memory()
    assert mail.texts("b") == ["1", "2"]
    assert mail.given("b") == ["2"], "the first was handed over before"


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_full_box_is_refused_with_the_remedy_and_takes_letters_when_it_is_read(mail):
    mail.session("a")
    mail.session("b", name="otter")
    for _ in range(MAIL_BOX_LETTERS_MAX):
        mail.send("a", "b")
    error = refused(mail.send, "a", "b")
    assert error.code == "quota_exceeded"
    assert "'otter'" in error.message
    assert "cosession inbox" in error.message
    assert mail.post.boxes.count("b") == MAIL_BOX_LETTERS_MAX
    mail.read("b", mail.ids("b")[0])
    mail.send("a", "b", "again")


def test_a_box_is_bounded_in_bytes(mail):
    mail.session("a")
    mail.session("b")
    sent = 0
    while sent < MAIL_BOX_BYTES_MAX - 9_000:
        sent += len(mail.send("a", "b", "x" * 8_000).writes[0].value)
    assert refused(mail.send, "a", "b", "x" * 9_000).code == "quota_exceeded"


def test_many_that_write_at_once_do_not_outgrow_a_box(mail):
    mail.session("a")
    mail.session("b")
    mail.commits.hold = True
    answers = [mail.begin_send("a", "b") for _ in range(MAIL_BOX_LETTERS_MAX)]
    assert refused(mail.begin_send, "a", "b").code == "quota_exceeded"
    mail.commits.release()
    mail.world.run_until_idle()
    assert all(answers)
    assert mail.post.boxes.count("b") == MAIL_BOX_LETTERS_MAX


def test_all_boxes_together_are_bounded(mail, monkeypatch):
    monkeypatch.setattr(boxes, "MAIL_BYTES_MAX", 20_000)
    assert MAIL_BYTES_MAX > MAIL_BOX_BYTES_MAX
    for id in "abc":
        mail.session(id)
    mail.send("a", "b", "x" * 8_000)
    mail.send("a", "c", "x" * 8_000)
    error = refused(mail.send, "b", "a", "x" * 8_000)
    assert error.code == "quota_exceeded"
    assert "cosession recover" in error.message


# -- who is meant ------------------------------------------------------------------------------------------------------


def test_a_name_is_enough_where_only_one_has_it(mail):
    mail.session("a", project="p")
    mail.session("b", name="otter", project="p")
    mail.session("c", name="otter", project="q")
    assert mail.send("a", "otter").to[0].id == "b", "the one of the sender's project"
    mail.session("d", name="otter", project="p")
    error = refused(mail.send, "a", "otter")
    assert error.code == "invalid_params"
    assert set(error.data["sessions"]) == {"b", "c", "d"}


def test_an_unknown_session_is_refused_with_those_that_are_called_nearly_so(mail):
    mail.session("a")
    mail.session("b", name="otter")
    error = refused(mail.send, "a", "oter")
    assert error.code == "not_found"
    assert error.data["nearest"] == ["otter"]
    assert "'otter'" in error.message
    assert "nearest" not in refused(mail.send, "a", "zzzzzz").data


def test_to_all_goes_a_copy_to_each_other_live_session_of_the_project(mail):
    for id in "abcd":
        mail.session(id)
    mail.session("elsewhere", project="q")
    mail.die("d")
    sent = mail.send("a", "", "tests are red")
    assert [each.id for each in sent.to] == ["b", "c"]
    assert len({write.id[2].partition("/")[2] for write in sent.writes}) == 1, "one letter, one id"
    assert len({entry.mod_revision for entry in mail.store.index if entry.id[0] == SPACE}) == 1, "one batch"
    mail.read("b")
    assert (mail.texts("b"), mail.texts("c"), mail.texts("a")) == ([], ["tests are red"], [])


def test_to_all_skips_full_boxes_and_says_so(mail):
    for id in "abc":
        mail.session(id)
    for _ in range(MAIL_BOX_LETTERS_MAX):
        mail.send("a", "b")
    sent = mail.send("a", "")
    assert ([each.id for each in sent.to], sent.full) == (["c"], ("b",))
    mail.close("c")
    assert refused(mail.send, "a", "").code == "quota_exceeded"


def test_to_all_needs_somebody_and_not_too_many(mail, monkeypatch):
    mail.session("a")
    assert refused(mail.send, "a", "").code == "not_found"
    monkeypatch.setattr(postroom, "MAIL_RECIPIENTS_MAX", 2)
    assert MAIL_RECIPIENTS_MAX > 2
    for id in "bcd":
        mail.session(id)
    assert refused(mail.send, "a", "").code == "too_large"


# -- deaths and successors ---------------------------------------------------------------------------------------------


def test_the_letters_of_the_dead_wait_and_more_may_come(mail):
    mail.session("a")
    mail.session("b")
    mail.send("a", "b", "1")
    mail.die("b")
    sent = mail.send("a", "b", "2")
    assert sent.to[0].state == "crashed"
    assert mail.texts("b") == ["1", "2"]


def test_nobody_writes_to_who_was_closed(mail):
    mail.session("a")
    mail.session("b")
    mail.send("a", "b", "1")
    mail.close("b")
    assert refused(mail.send, "a", "b").code == "session_ended"
    assert mail.texts("b") == ["1"], "it reads them when it comes back"


def test_who_goes_on_under_another_id_gets_the_letters_and_those_to_come(mail):
    mail.session("a")
    mail.session("b", pid=500)
    mail.send("a", "b", "1")
    mail.send("a", "b", "2")
    mail.given("b", 1)
    mail.session("c", pid=500, replaces="b")
    mail.world.run_until_idle()
    assert mail.send("a", "b", "3").to[0].id == "c"
    assert mail.texts("c") == ["1", "2", "3"]
    assert mail.texts("b") == []
    (first, *_) = (mail.post.open(held) for held in mail.post.boxes.unread("c"))
    assert (first.passed_from, first.state, first.delivered_at) == ("b", "queued", 0.0)


def test_what_is_on_its_way_to_one_that_is_replaced_meanwhile_is_passed_on(mail):
    mail.session("a")
    mail.session("b", pid=500)
    mail.send("a", "b", "1")
    mail.commits.hold = True
    registering = mail.begin_register(mail.instances["b"], id="c", replaces="b")
    sending = mail.begin_send("a", "b", "2")
    mail.commits.release()
    mail.wait(registering)
    mail.wait(sending)
    assert mail.texts("c") == ["1", "2"]


def test_passing_on_goes_on_after_a_kill_and_keeps_the_order_among_other_letters(mail):
    mail.session("a")
    mail.session("b", pid=500)
    mail.session("x")
    for number in range(3):
        mail.send("a", "b", str(number))
    mail.post._follow_up = lambda _: None  # killed before it came to it
    mail.session("c", pid=500, replaces="b")
    mail.send("a", "x", "no matter")
    mail.send("a", "c", "3")
    assert mail.texts("c") == ["3"]
    mail.restart()
    assert mail.texts("c") == ["0", "1", "2", "3"]
    mail.restart()
    assert mail.texts("c") == ["0", "1", "2", "3"], "the place among the others is durable"


def test_a_full_box_is_passed_on_whole_in_portions(mail):
    mail.session("a")
    mail.session("b", pid=500)
    for number in range(MAIL_BOX_LETTERS_MAX):
        mail.send("a", "b", str(number))
    mail.session("c", pid=500, replaces="b")
    mail.send("a", "a", "to itself")
    assert mail.texts("c") == [str(number) for number in range(MAIL_BOX_LETTERS_MAX)]
    assert mail.texts("a") == ["to itself"]


def test_of_a_letter_to_all_that_the_successor_has_as_well_the_copy_goes(mail):
    mail.session("a")
    mail.session("b", pid=500)
    mail.session("c")
    mail.send("a", "", "to all")
    mail.send("a", "b", "to b")
    compares, writes = mail.post.inheritance("b", "c", 128)
    assert (len(compares), len(writes)) == (2, 3)
    mail.store.submit(mail.store.batch(mail.store.origin("session.recover"), compares, writes), lambda _: None)
    mail.world.run_until_idle()
    assert mail.texts("c") == ["to all", "to b"]
    assert mail.texts("b") == []


@pytest.mark.parametrize(("writes_max", "bytes_max", "moved"), [(128, 10**6, 5), (5, 10**6, 2), (128, 20_000, 2)])
def test_as_much_is_inherited_as_fits_the_batch(mail, writes_max, bytes_max, moved):
    mail.session("a")
    mail.session("b")
    mail.session("c")
    for _ in range(5):
        mail.send("a", "b", "x" * 8_000)
    mail.die("b")
    compares, writes = mail.post.inheritance("b", "c", writes_max, bytes_max)
    assert (len(compares), len(writes)) == (moved, 2 * moved)
    assert mail.post.inheritance("b", "nobody", 128) == ([], [])


def test_letters_go_with_the_record_of_their_session(mail):
    mail.session("a")
    mail.session("b")
    for _ in range(70):
        mail.send("a", "b")
    mail.die("b")
    record = mail.registry.view.get("b")
    gone = letters.Delete(("$sessions", "global", "b"))
    assert record is not None
    mail.store.submit(mail.store.batch(mail.store.origin("test"), [], [gone]), lambda _: None)
    mail.world.run_until_idle()
    assert mail.ids("b") == []


def test_what_could_not_be_passed_on_is_tried_again(mail):
    mail.session("a")
    mail.session("b", pid=500)
    mail.send("a", "b", "1")
    follow_up = mail.post._follow_up
    mail.post._follow_up = lambda _: None
    mail.session("c", pid=500, replaces="b")
    mail.post._follow_up = follow_up
    mail.store.read_only = "the disk is full"
    mail.post._follow_up("b")
    assert mail.texts("c") == []
    mail.store.read_only = ""
    mail.world.advance(postroom.RETRY_S + 0.01)
    assert mail.texts("c") == ["1"]
