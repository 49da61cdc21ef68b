"""Both clients against a daemon that loses answers, leaves, lies or says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time

import pytest

import cosession
from cosession import Closed, CosessionError, InvalidRequest, TimedOut, UnknownOutcome, Unreachable, sync
from cosession.errors import error_from
from cosession.messages.limits import LIMITS, Limits
from cosession.messages.store import Get
from cosession.messages.watches import Watch
from cosession.retries import LINKS_LOST_MAX
from cosession.sync.io import _OwnedLock

QUICK_S = 0.2


def hang_up_later(daemon, connection, protocol, call):  # noqa: ARG001 - the shape of a scripted action
    """A goodbye, as a daemon that stops sends it."""
    protocol.goodbye(error_from("shutting_down", "the daemon stops"), 7)
    connection.sendall(protocol.data_to_send())
    connection.shutdown(1)


def half_an_answer(daemon, connection, protocol, call):
    protocol.reply(call, daemon.answer(daemon.calls[-1]))
    connection.sendall(protocol.data_to_send()[:7])
    connection.shutdown(1)


def rubbish(daemon, connection, protocol, call):  # noqa: ARG001
    connection.sendall(b"\xff" * 100)


def new_epoch(daemon, connection, protocol, call):  # noqa: ARG001
    daemon.epoch = "epoch-2"
    connection.shutdown(2)


class Interrupt(BaseException):
    """As KeyboardInterrupt, but of this file."""


def raise_interrupt():
    raise Interrupt


class Interrupter:
    """Sends this process a signal every `seconds`. Once per arming its handler carries out the action."""

    def __init__(self, seconds, action=raise_interrupt):
        self.armed = False
        self._seconds = seconds
        self._action = action
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._before = signal.signal(signal.SIGUSR1, self._handle)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.armed = False
        self._done.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def _run(self):
        while not self._done.wait(self._seconds):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def _handle(self, *_):
        if self.armed:
            self.armed = False
            self._action()


LOSSES = ["hang up", hang_up_later, half_an_answer, rubbish]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_write_whose_answer_is_lost_is_repeated_with_the_same_id(connect, run, scripted, loss):
    scripted.script += [loss, loss]

    async def body():
        async with connect(scripted.path) as client:
            entry = await client.put("a", {"x": 1})
            assert (entry.value, entry.mod_revision) == ({"x": 1}, 8)

    run(body())
    assert len(scripted.calls) == 3
    (request_id,) = {call.request_id for call in scripted.calls}
    assert len(request_id) == 26


@pytest.mark.parametrize("loss", LOSSES)
def test_a_read_is_repeated(connect, run, scripted, loss):
    scripted.script.append(loss)

    async def body():
        async with connect(scripted.path) as client:
            assert (await client.get("a")).value == "a"

    run(body())


def test_a_write_is_not_repeated_in_another_epoch(connect, run, scripted):
    scripted.script.append(new_epoch)

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(UnknownOutcome) as caught:
                await client.put("a", 1)
            assert caught.value.data["request_id"] == scripted.calls[0].request_id
            await client.put("a", 1, request_id=caught.value.data["request_id"])
            assert client.epoch == "epoch-2"

    run(body())
    assert len(scripted.calls) == 2
    assert [hello.epoch for hello in scripted.hellos] == ["", "epoch-1", ""], "refused once, then greeted anew"


def test_what_kills_every_connection_is_given_up(connect, run, scripted):
    scripted.script += ["hang up"] * 100

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(UnknownOutcome):
                await client.put("a", 1)
            assert len(scripted.calls) == LINKS_LOST_MAX + 1
            with pytest.raises(Unreachable, match="lost 5 times"):
                await client.get("a")

    run(body())


def test_a_silent_daemon_times_out_and_its_late_answers_are_not_taken_for_the_next(connect, run, scripted):
    held = []

    def later(daemon, connection, protocol, call):  # noqa: ARG001
        held.append(call)

    def now_both(daemon, connection, protocol, call):  # noqa: ARG001
        for each in held:
            protocol.reply(each, daemon.answer(Get(key="late")))
        protocol.reply(call, daemon.answer(Get(key="right")))

    scripted.script += [later, later, now_both]

    async def body():
        async with connect(scripted.path) as client:
            began = time.monotonic()
            with pytest.raises(TimedOut):
                await client.get("a", timeout_s=QUICK_S)
            with pytest.raises(UnknownOutcome) as caught:
                await client.put("b", 1, timeout_s=QUICK_S)
            assert caught.value.data["request_id"] == scripted.calls[1].request_id
            assert 2 * QUICK_S <= time.monotonic() - began < 2
            assert (await client.get("c")).value == "right"

    run(body())
    assert len(scripted.connections) == 1


def test_no_time_at_all(connect, run, scripted):
    scripted.script += ["silence"]

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(TimedOut):
                await client.get("a", timeout_s=0)
            assert (await client.ping()).pid == 4711

    run(body())


def test_overloaded_passes(connect, run, scripted):
    scripted.script += [error_from("overloaded", "busy"), error_from("shutting_down", "wait")]

    async def body():
        async with connect(scripted.path) as client:
            await client.put("a", 1)

    run(body())
    assert len({call.request_id for call in scripted.calls}) == 1


def test_refusals_come_typed(connect, run, scripted):
    current = {"key": "a", "value": 5, "version": 1, "create_revision": 1, "mod_revision": 1}
    scripted.script += [
        error_from("conflict", "no", {"current": current}),
        error_from("store_full", "full"),
        error_from("not_yet_invented", "new"),
    ]

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(cosession.Conflict) as caught:
                await client.put("a", 1, expect_revision=9)
            assert caught.value.current.value == 5
            with pytest.raises(CosessionError, match="full") as caught:
                await client.put("a", 1)
            assert caught.value.code == "store_full"
            with pytest.raises(CosessionError, match="not_yet_invented"):
                await client.get("a")

    run(body())


def test_the_daemon_is_greeted_with_what_was_seen(connect, run, scripted):
    scripted.script += ["hang up"]

    async def body():
        async with connect(scripted.path) as client:
            await client.put("a", 1)

    run(body())
    assert [(hello.epoch, hello.seen_revision) for hello in scripted.hellos] == [("", 0), ("epoch-1", 7)]


@pytest.mark.parametrize(
    ("protocol", "refusal", "expected"),
    [
        (1, "incompatible", ("incompatible", "run: cosession restart")),
        (99, None, ("incompatible", "run: cosession restart")),
        (1, "damaged", ("damaged", "no")),
    ],
)
def test_a_daemon_not_to_be_talked_to(*, connect, run, scripted, protocol, refusal, expected):
    scripted.protocol = protocol
    scripted.hello_error = error_from(refusal, "no") if refusal else None
    code, message = expected

    async def body():
        with pytest.raises(CosessionError, match=message) as caught:
            async with connect(scripted.path):
                pass
        assert caught.value.code == code

    run(body())


def test_a_busy_daemon_is_greeted_again(connect, run, scripted):
    scripted.hello_error = error_from("overloaded", "full house")
    timer = threading.Timer(0.03, lambda: setattr(scripted, "hello_error", None))
    timer.start()

    async def body():
        async with connect(scripted.path) as client:
            await client.ping()

    run(body())
    timer.join()


def test_nobody_there(connect, run, home):
    async def body():
        with pytest.raises(Unreachable, match="name the socket of a running daemon"):
            async with connect(home / "no.sock"):
                pass

    run(body())


def test_a_request_over_the_frame_costs_nothing_else(connect, run, scripted):
    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(cosession.TooLarge):
                await client.put("a", "x" * LIMITS.frame_bytes_max)
            assert (await client.get("a")).value == "a"

    run(body())
    assert len(scripted.connections) == 1


def test_a_large_request_and_a_large_answer(connect, run, scripted):
    big = "x" * 900_000

    def large(daemon, connection, protocol, call):  # noqa: ARG001
        protocol.reply(call, daemon.answer(Get(key=big)))

    async def body():
        async with connect(scripted.path) as client:
            await client.put("a", big)
            scripted.script.append(large)
            assert (await client.get("a")).value == big

    run(body())


def test_the_limits_of_the_daemon_are_kept(connect, run, scripted):
    scripted.limits = Limits(frame_bytes_max=2_000, in_flight_max=2)

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(cosession.TooLarge, match="a frame holds 2000"):
                await client.put("a", "x" * 3_000)
            found = await asyncio.gather(*(client.get(f"{n}") for n in range(10)))
            assert [entry.value for entry in found] == [f"{n}" for n in range(10)]

    run(body())
    assert len(scripted.connections) == 1


@pytest.mark.parametrize("call", [lambda c: c.get("\ud800"), lambda c: c.put("a", 1, expect_revision=2**70)])
def test_what_no_message_can_hold(connect, run, scripted, call):
    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(InvalidRequest, match="cannot call"):
                await call(client)
            assert (await client.get("a")).value == "a"

    run(body())
    assert len(scripted.connections) == 1


def test_closed_is_closed(connect, run, scripted):
    async def body():
        async with connect(scripted.path) as client:
            await client.close()
            with pytest.raises(Closed, match="connect again"):
                await client.get("a")
            with pytest.raises(Closed):
                client.watch()
            with pytest.raises(Closed):
                client.session()
            await client.close()

    run(body())


def test_a_watch_is_no_call(connect, run, scripted):
    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(InvalidRequest, match=r"use watch\(\)"):
                await client.call(Watch())

    run(body())


def test_values_that_are_no_json_data(connect, run, scripted):
    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(InvalidRequest, match="cannot send value"):
                await client.put("a", object())
            with pytest.raises(InvalidRequest, match="cannot send patch"):
                await client.merge("a", object())

    run(body())
    assert not scripted.calls


class TestBlocking:
    """What only the blocking client has to get right."""

    def test_an_interrupted_call_leaves_a_usable_client(self, scripted):
        scripted.script += ["silence"]
        with sync.connect(scripted.path) as client, Interrupter(0.05) as interrupter:
            interrupter.armed = True
            with pytest.raises(Interrupt):
                client.get("a")
            assert client.get("b").value == "b"

    # An interrupt between the making of a socket and its having an owner leaves it to the collector, who says so; one
    # inside a finalizer goes nowhere, as Python has it.
    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_interrupts_at_any_moment_never_mix_up_answers(self, scripted):
        interrupted = count = 0
        with sync.connect(scripted.path) as client, Interrupter(0.003) as interrupter:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                count += 1
                try:
                    interrupter.armed = True
                    assert client.get(f"key-{count}").value == f"key-{count}"
                    interrupter.armed = False
                except Interrupt:
                    interrupted += 1
            assert client.get("last").value == "last"
        gc.collect()  # what there is to say about it is said here
        assert interrupted > 50

    def test_signals_that_raise_nothing_do_not_stretch_a_deadline(self, scripted):
        scripted.script += ["silence"]
        with sync.connect(scripted.path) as client, Interrupter(0.01):
            began = time.monotonic()
            with pytest.raises(TimedOut):
                client.get("a", timeout_s=0.3)
            assert time.monotonic() - began < 1

    def test_a_call_inside_a_call_is_refused_not_a_deadlock(self, scripted):
        scripted.script += ["silence"]
        found = []
        with sync.connect(scripted.path) as client:

            def call_again():
                try:
                    client.get("inner")
                except CosessionError as error:
                    found.append(error)

            with Interrupter(0.05, action=call_again) as interrupter:
                interrupter.armed = True
                with pytest.raises(TimedOut):
                    client.get("outer", timeout_s=QUICK_S)
            assert isinstance(found[0], InvalidRequest)
            assert client.get("after").value == "after"

    def test_a_turn_that_was_interrupted_before_it_was_written_down_is_given_back(self):
        owned = _OwnedLock()
        owned._lock.acquire()  # and here the interrupt came, inside `take`
        owned.leave()
        found = []

        def other():
            owned.take(time.monotonic() + 20)
            found.append(owned.is_mine())
            owned.leave()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert found == [True]
        assert not owned.is_mine()
        owned.leave()  # of one that nobody has: nothing

    def test_threads_share_a_client(self, scripted):
        wrong = []

        def work(number):
            for count in range(100):
                key = f"{number}/{count}"
                if client.get(key).value != key:
                    wrong.append(key)

        with sync.connect(scripted.path) as client:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not wrong
        assert len(scripted.connections) == 1

    def test_a_thread_waits_for_its_turn_no_longer_than_allowed(self, scripted):
        scripted.script += ["silence"]
        with sync.connect(scripted.path) as client:

            def wait():
                with pytest.raises(TimedOut):
                    client.get("a", timeout_s=1)

            slow = threading.Thread(target=wait)
            slow.start()
            while not scripted.calls:
                time.sleep(0.001)
            began = time.monotonic()
            with pytest.raises(TimedOut, match="another thread"):
                client.get("b", timeout_s=QUICK_S)
            assert time.monotonic() - began < 0.8
            slow.join()

    def test_closing_wakes_a_thread_that_waits(self, scripted):
        scripted.script += ["silence"]
        found = []
        client = sync.connect(scripted.path)

        def wait():
            try:
                client.get("a", timeout_s=30)
            except CosessionError as error:
                found.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not scripted.calls:
            time.sleep(0.001)
        client.close()
        thread.join(3)
        assert not thread.is_alive()
        assert isinstance(found[0], Closed)

    def test_a_forked_child_is_told_and_harms_nothing(self, scripted):
        with sync.connect(scripted.path) as client:
            child = os.fork()
            if not child:
                code = 1
                try:
                    with contextlib.suppress(Closed):
                        client.get("a")
                        os._exit(2)
                    client.close()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert client.get("b").value == "b"
        assert len(scripted.connections) == 1


async def scripted_calls(scripted, count):
    """Return when the daemon (in another thread) has been called so often."""
    while len(scripted.calls) < count:  # noqa: ASYNC110 - a thread cannot set an asyncio.Event
        await asyncio.sleep(0.001)


class TestAsyncio:
    """What only the asyncio client has to get right."""

    def test_many_calls_at_once_over_one_connection(self, run, scripted):
        async def body():
            async with cosession.aio.connect(scripted.path) as client:
                keys = [f"k{n}" for n in range(1_000)]
                found = await asyncio.gather(*(client.get(key) for key in keys))
                assert [entry.value for entry in found] == keys

        run(body())
        assert len(scripted.connections) == 1

    def test_a_cancelled_call_leaves_the_others_alone(self, run, scripted):
        scripted.script += ["silence"]

        async def body():
            async with cosession.aio.connect(scripted.path) as client:
                slow = asyncio.create_task(client.get("slow"))
                await scripted_calls(scripted, 1)
                other = asyncio.create_task(client.get("other"))
                slow.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await slow
                assert (await other).value == "other"

        run(body())
        assert len(scripted.connections) == 1

    def test_cancelling_at_any_moment(self, run, scripted):
        async def body():
            async with cosession.aio.connect(scripted.path) as client:
                for count in range(300):
                    tasks = [asyncio.create_task(client.get(f"{count}/{n}")) for n in range(4)]
                    await asyncio.sleep((count % 7) * 0.0001)
                    tasks[count % 4].cancel()
                    found = await asyncio.gather(*tasks, return_exceptions=True)
                    for n, each in enumerate(found):
                        assert isinstance(each, asyncio.CancelledError) or each.value == f"{count}/{n}"

        run(body())
        assert len(scripted.connections) == 1

    def test_one_lost_connection_and_many_calls_make_one_new_one(self, run, scripted):
        scripted.script += ["silence"] * 10

        async def body():
            async with cosession.aio.connect(scripted.path) as client:
                calls = [asyncio.create_task(client.put(f"k{n}", n)) for n in range(10)]
                await scripted_calls(scripted, 10)
                scripted.hang_up()
                assert [entry.value for entry in await asyncio.gather(*calls)] == list(range(10))

        run(body())
        assert len(scripted.connections) == 2

    def test_connect_can_be_awaited(self, run, scripted):
        async def body():
            client = await cosession.aio.connect(scripted.path)
            assert (await client.get("a")).value == "a"
            await client.close()

        run(body())

    def test_connecting_can_be_cancelled(self, run, scripted):
        scripted.hello_error = "silence"

        async def body():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await cosession.aio.connect(scripted.path)

        run(body())
