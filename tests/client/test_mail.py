"""Mail of both clients against a real daemon: sent, handed over, read, taken as it comes; refused; across a kill."""

# Sessions are many: they stand in more than one line.
# ruff: noqa: SIM117
from __future__ import annotations

import pytest

from cosession import CosessionError, NotAllowed, TimedOut, TooLarge
from cosession.messages.limits import MAIL_TEXT_BYTES_MAX
from cosession.messages.mail import Inbox, Read, Send
from harness import Daemon


async def texts(session, **names):
    return [letter.text for letter in await session.inbox(**names)]


def test_a_letter_goes_its_way(use):
    async def body(client):
        async with client.session(name="otter", heartbeat_s=0) as otter, client.session(heartbeat_s=0) as heron:
            sent = await heron.send("otter", "look at src/parser.py\n\x1b[2Jnow", importance="high")
            assert (sent.to, sent.waiting, sent.full, sent.repeated) == ([otter.id], [], [], False)
            (letter,) = await otter.inbox()
            assert (letter.id, letter.sender, letter.to, letter.state) == (sent.id, heron.id, otter.id, "queued")
            assert letter.text == "look at src/parser.py\n\x1b[2Jnow", "a text is kept as it is"
            assert letter.project == client.project
            assert await texts(otter, new=True) == [letter.text]
            assert await texts(otter, new=True) == []
            assert [each.state for each in await otter.inbox()] == ["delivered"]
            answer = await otter.send(heron.id, "done", thread=letter.thread)
            (answered,) = await heron.inbox()
            assert (answered.id, answered.thread, answered.sender_name) == (answer.id, sent.id, "otter")
            assert await otter.read(letter) == 0
            assert await texts(otter) == []
            assert [each.state for each in await otter.inbox(kept=True)] == ["read"]

    use(body)


def test_to_all_of_the_project(use):
    async def body(client):
        async with client.session(heartbeat_s=0) as one, client.session(heartbeat_s=0) as two:
            async with client.session(heartbeat_s=0) as three, client.session(heartbeat_s=0, project="q") as elsewhere:
                sent = await one.send_to_all("tests are red")
                assert set(sent.to) == {two.id, three.id}
                assert await texts(two) == await texts(three) == ["tests are red"]
                assert await texts(one) == await texts(elsewhere) == []

    use(body, project="p")


def test_a_repeat_sends_nothing_twice_even_when_it_would_be_refused_by_now(use):
    async def body(client):
        async with client.session(heartbeat_s=0) as one, client.session(name="two", heartbeat_s=0) as two:
            first = await one.send("two", "once", request_id="r1")
            again = await one.send("two", "once", request_id="r1")
            assert (again.id, again.to, again.repeated) == (first.id, first.to, True)
            await two.close()
            after = await one.send("two", "once", request_id="r1")
            assert (after.id, after.repeated) == (first.id, True)
            with pytest.raises(CosessionError) as caught:
                await one.send("two", "twice", request_id="r2")
            assert caught.value.code == "session_ended"

    use(body)


def test_what_is_refused(use):
    async def body(client):
        with pytest.raises(NotAllowed, match="for nobody"):
            await client.call(Send(to="otter", text="x"))
        with pytest.raises(NotAllowed, match="for nobody"):
            await client.call(Inbox())
        async with client.session(name="otter", heartbeat_s=0) as otter:
            with pytest.raises(CosessionError) as caught:
                await otter.send("ottr", "x")
            assert (caught.value.code, caught.value.data["nearest"]) == ("not_found", ["otter"])
            for text in ("", "x" * (MAIL_TEXT_BYTES_MAX + 1)):
                with pytest.raises(TooLarge, match="into the context"):
                    await otter.send("otter", text)
            await otter.send("otter", "ü" * (MAIL_TEXT_BYTES_MAX // 2))
            with pytest.raises(CosessionError, match="control character"):
                await otter.send("otter", "x", thread="\x1b")
            for wrong in ({"to": "a", "all": True}, {}):
                with pytest.raises(CosessionError, match="and not both"):
                    await client.call(Send(text="x", **wrong))
            for wrong in ({}, {"ids": ["a"], "all": True}):
                with pytest.raises(CosessionError, match="and not both"):
                    await client.call(Read(**wrong))
            with pytest.raises(CosessionError, match="leave one out"):
                await client.call(Inbox(new=True, box="otter"))
            reply = await client.call(Read(ids=["no such letter"], session=otter.id))
            assert (reply.absent, reply.unread) == (["no such letter"], 1)

    use(body)


def test_anybody_may_look_and_only_the_session_itself_reads(use, connect, daemon):
    async def body(client):
        async with client.session(name="otter", heartbeat_s=0) as otter, connect(daemon.socket) as other:
            await otter.send("otter", "mine")
            reply = await other.call(Inbox(box="otter"))
            assert ([letter.text for letter in reply.letters], reply.unread) == (["mine"], 1)
            async with other.session(heartbeat_s=0) as heron:
                assert (await other.call(Read(all=True, session=heron.id))).unread == 0
            assert await texts(otter) == ["mine"]

    use(body)


def test_the_audit_tells_who_wrote_to_whom_and_not_a_word_of_it(use):
    async def body(client):
        async with client.session(id="a", heartbeat_s=0) as one, client.session(id="b", heartbeat_s=0) as two:
            sent = await one.send("b", "not a word of this")
            await two.read()
            with pytest.raises(CosessionError):
                await one.send("c", "x")
            records = await client.audit(kind="mail")
            assert [each.outcome for each in records] == ["sent"], "reading is in the letters themselves"
            (record,) = records
            assert (record.session, record.subject, record.operation) == ("a", f"b/{sent.id}", "mail.send")
            assert record.facts["came"] == 1
            assert "word" not in str(record)

    use(body)


def test_who_dies_is_written_to_and_who_goes_on_for_it_reads(use):
    async def body(client):
        async with client.session(id="old", name="otter", heartbeat_s=0) as old, client.session(heartbeat_s=0) as other:
            await other.send("otter", "1")
            async with client.session(id="new", heartbeat_s=0, replaces="old") as new:
                letters = await new.letters(timeout_s=20)
                first = await letters.next()
                assert (first.text, first.passed_from, first.to) == ("1", "old", "new")
                assert (await other.send("old", "2")).to == ["new"]
                assert (await letters.next()).text == "2"
                await letters.close()
                records = await client.audit(kind="mail")
                assert [each.outcome for each in records] == ["sent", "passed_on", "sent"]
            assert old.id == "old"

    use(body)


def test_letters_come_once_each_in_order_and_count_as_read_with_the_next(use):
    async def body(client):
        async with client.session(name="otter", heartbeat_s=0) as otter, client.session(heartbeat_s=0) as heron:
            await heron.send("otter", "0")
            async with otter.letters(timeout_s=20) as letters:
                assert (await letters.next()).text == "0"
                await heron.send("otter", "1")
                await texts(otter, new=True)  # a change that is no letter
                await heron.send("otter", "2")
                assert await texts(otter) == ["0", "1", "2"]
                assert [(await letters.next()).text, (await letters.next()).text] == ["1", "2"]
                assert await texts(otter) == ["2"], "the last one was not asked beyond"
                with pytest.raises(TimedOut):
                    await letters.next(timeout_s=0.01)
                assert await texts(otter) == []
            async with otter.letters() as letters:
                await heron.send("otter", "3")
                async for letter in letters:
                    assert letter.text == "3"
                    break
            assert await texts(otter) == ["3"], "who leaves before the next finds it again"

    use(body)


def test_letters_and_what_was_read_survive_a_kill(home, connect, run):
    async def body():
        with Daemon(home) as daemon:
            async with connect(daemon.socket) as client:
                async with client.session(id="a", name="otter", heartbeat_s=0) as otter:
                    for number in range(3):
                        await otter.send("otter", str(number))
                    letters = await otter.letters(timeout_s=20)
                    first = await letters.next()
                    daemon.kill()
                    daemon.start()
                    rest = [first.text, (await letters.next()).text, (await letters.next()).text]
                    assert rest == ["0", "1", "2"], "the stream goes on where it was"
                    assert await texts(otter) == ["2"]
                    await letters.close()

    run(body())
