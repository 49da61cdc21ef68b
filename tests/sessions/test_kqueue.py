"""Deaths told by a kqueue, on an invented Mac: no real one was there. The machine itself is tested first, then what is
built on it, then that mistakes somebody could make here are caught.
"""

from __future__ import annotations

import errno
import random
import select
from functools import partial

import pytest

from cosession.model import Instance
from cosessiond.sessions import kqueue
from cosessiond.sessions.kqueue import EVENTS_MAX, Kqueue
from cosessiond.sessions.probes import probe_process
from cosessiond.sessions.verdict import OVER
from cosessiond.sessions.watching import POLL_S, ProcessWatch
from cosessiond.store.leases import Deadlines
from sessions import mac as invented
from sessions.mac import EV_ADD, EV_DELETE, EVFILT_PROC, NOTE_EXIT, Event, Mac
from virtual import World

# The invented machine.


def change(queue, pid, flags=EV_ADD, fflags=NOTE_EXIT):
    return queue.control([Event(pid, EVFILT_PROC, flags, fflags)], 0, 0)


def read(queue, events_max=8):
    return [(event.ident, event.fflags) for event in queue.control(None, events_max, 0)]


def test_the_machine_delivers_an_exit_once():
    mac = Mac()
    queue, process = mac.kqueue(), mac.spawn(7)
    change(queue, 7)
    mac.begin_exit(process)
    assert read(queue) == []
    mac.exit(process)
    mac.collect(process)
    assert read(queue, 0) == []
    assert read(queue) == [(7, NOTE_EXIT)]
    assert read(queue) == []
    with pytest.raises(FileNotFoundError):
        change(queue, 7, EV_DELETE)


def test_the_machine_attaches_to_what_runs_only():
    mac = Mac()
    queue, process = mac.kqueue(), mac.spawn(7)
    with pytest.raises(ProcessLookupError):
        change(queue, 8)
    mac.begin_exit(process)
    assert mac.facts(7).zombie is False, "it is shown as running"
    with pytest.raises(ProcessLookupError):
        change(queue, 7)
    mac.exit(process)
    assert mac.facts(7).zombie
    with pytest.raises(ProcessLookupError):
        change(queue, 7)


def test_the_machine_leaves_a_filter_where_it_was_attached():
    mac = Mac()
    queue = mac.kqueue()
    first = mac.spawn(7)
    change(queue, 7)
    mac.kill(first)
    second = mac.spawn(7)
    change(queue, 7)  # touches the filter of the first, whose event still waits
    assert read(queue) == [(7, NOTE_EXIT)]
    mac.kill(second)
    assert read(queue) == []
    assert first.start_time != second.start_time


def test_the_machine_delivers_as_much_as_there_is_room_for():
    mac = Mac()
    queue = mac.kqueue()
    for process in [mac.spawn(pid) for pid in range(1, 6)]:
        change(queue, process.pid)
        mac.kill(process)
    assert [len(read(queue, 2)) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.skipif(not hasattr(select, "kqueue"), reason="Python knows the numbers where there is a kqueue")
def test_the_numbers_are_those_of_this_system():
    assert kqueue.EVFILT_PROC == select.KQ_FILTER_PROC
    assert kqueue.EV_ADD == select.KQ_EV_ADD
    assert kqueue.EV_DELETE == select.KQ_EV_DELETE
    assert kqueue.EV_ONESHOT == select.KQ_EV_ONESHOT
    assert kqueue.NOTE_EXIT == select.KQ_NOTE_EXIT


def test_the_numbers_are_those_of_the_header():
    """bsd/sys/event.h; one flag is one bit, so a slip of the pen would show."""
    assert (kqueue.EVFILT_PROC, kqueue.EV_ADD, kqueue.EV_DELETE) == (-5, 0x0001, 0x0002)
    assert (kqueue.EV_ONESHOT, kqueue.NOTE_EXIT) == (0x0010, 0x80000000)
    assert (invented.EVFILT_PROC, invented.NOTE_EXIT) == (kqueue.EVFILT_PROC, kqueue.NOTE_EXIT)


# What is built on it.


class Bench:
    """A `ProcessWatch` through a kqueue of an invented Mac, in a virtual world, and what it told."""

    def __init__(self, seed=1, *, notifier=Kqueue, watch=ProcessWatch):
        self.mac = Mac()
        self.world = World(seed)
        self.deadlines = Deadlines(self.world.clock, self.world)
        self.notifier = notifier(self.mac.kqueue, Event, self.mac.add_reader, self.mac.remove_reader)
        self.watch = watch(
            self.world.clock,
            self.deadlines,
            self.notifier,
            look=lambda instance, clock: probe_process(instance, clock, boot="b", facts_of=self.mac.facts),
        )
        self.told = []

    def begin(self, process, on_death=None):
        return self.watch.watch(instance_of(process), on_death or self.tell)

    def tell(self, notice):
        self.told.append((notice.instance.pid, notice.instance.start_time, notice.signal.kind))

    def settle(self, seconds=0.0):
        """Let the loop do what is ready, and `seconds` pass."""
        while self.mac.turn():
            pass
        self.world.advance(seconds)

    def is_clean(self):
        return not (self.mac.queues or self.mac.readers or len(self.deadlines) or self.notifier.count())


def instance_of(process):
    return Instance(boot_id="b", pid=process.pid, start_time=process.start_time)


def test_an_exit_is_told_at_once_and_nothing_is_left():
    bench = Bench()
    process = bench.mac.spawn(7)
    told = []
    bench.begin(process, told.append)
    assert bench.watch.counts() == {"told": 1, "polled": 0}
    bench.settle(60)
    assert told == []
    bench.mac.begin_exit(process)
    bench.mac.exit(process)
    bench.settle()
    (notice,) = told
    assert notice.evidence == "kqueue NOTE_EXIT: pid 7 (start 1) exited"
    assert notice.signal.kind == "gone"
    assert bench.is_clean()


def test_a_thousand_share_one_descriptor_and_die_together():
    bench = Bench()
    processes = [bench.mac.spawn(pid) for pid in range(1, 1001)]
    for process in processes:
        bench.begin(process)
        bench.begin(process).cancel()
    assert len(bench.mac.queues) == len(bench.mac.readers) == 1
    assert bench.watch.counts() == {"told": 1000, "polled": 0}
    for process in processes:
        bench.mac.kill(process)
    bench.mac.turn()
    assert len(bench.told) == EVENTS_MAX
    bench.settle()
    assert sorted(pid for pid, _, _ in bench.told) == list(range(1, 1001))
    assert bench.is_clean()


def test_a_cancelled_watch_owns_nothing():
    bench = Bench()
    process = bench.mac.spawn(7)
    for _ in range(3):
        watches = [bench.begin(process), bench.begin(process)]
        for each in watches:
            each.cancel()
            each.cancel()
        assert bench.is_clean()
    standing = bench.begin(process)
    bench.mac.kill(process)  # the event waits when it is cancelled
    standing.cancel()
    bench.settle(60)
    assert bench.told == []
    assert bench.is_clean()


def test_one_that_is_over_already_is_told_later_and_never_inside_watch():
    bench = Bench()
    gone, zombie, reused = bench.mac.spawn(1), bench.mac.spawn(2), bench.mac.spawn(3)
    bench.mac.kill(gone)
    bench.mac.begin_exit(zombie)
    bench.mac.exit(zombie)
    bench.mac.kill(reused)
    bench.mac.spawn(3)
    for process in (gone, zombie, reused):
        bench.begin(process)
    assert bench.told == []
    bench.settle()
    assert sorted(bench.told) == [(1, 1, "gone"), (2, 2, "zombie"), (3, 3, "reused")]
    assert bench.is_clean()


def test_one_that_is_exiting_and_still_shown_as_running_is_over():
    bench = Bench()
    process = bench.mac.spawn(7)
    bench.mac.begin_exit(process)
    bench.begin(process)
    bench.settle()
    assert bench.told == [(7, 1, "gone")]
    assert bench.is_clean()


def between(bench, act):
    """Let `act` happen once, just before the kernel carries out the next change."""

    def once(_change):
        bench.mac.before_change = lambda _: None
        act()

    bench.mac.before_change = once


def test_a_pid_that_is_reused_just_before_it_is_registered():
    bench = Bench()
    process = bench.mac.spawn(7)
    between(bench, lambda: (bench.mac.kill(process), bench.mac.spawn(7)))
    bench.begin(process)
    bench.settle()
    assert bench.told == [(7, 1, "reused")]
    assert bench.is_clean(), "nothing stays on the process that has the pid now"


def test_a_death_between_registering_and_looking_is_told_once(monkeypatch):
    bench = Bench()
    process = bench.mac.spawn(7)
    look = bench.watch._look
    monkeypatch.setattr(bench.watch, "_look", lambda *given: (bench.mac.kill(process), look(*given))[1])
    bench.begin(process)
    bench.settle(10)
    assert bench.told == [(7, 1, "gone")]
    assert bench.is_clean()


def reuse_before_delivery(bench):
    """The first dies, the second gets its pid and registers, and only then the loop reads the queue."""
    first = bench.mac.spawn(7)
    bench.begin(first)
    bench.mac.kill(first)
    second = bench.mac.spawn(7)
    bench.begin(second)
    assert bench.told == [], "never inside `watch`"
    bench.settle(0.1)
    after_first = list(bench.told)
    bench.mac.kill(second)
    bench.settle(0.1)
    return after_first == [(7, 1, "reused")] and bench.told[1:] == [(7, 2, "gone")] and bench.is_clean()


def test_a_pid_that_is_reused_before_its_event_is_read():
    assert reuse_before_delivery(Bench())


def register_while_telling(bench):
    """Two events are read at once; whoever is told of the first registers a process that has the pid of the second."""
    neighbour, first = bench.mac.spawn(1), bench.mac.spawn(7)
    second = []

    def tell_and_register(notice):
        bench.tell(notice)
        second.append(bench.mac.spawn(7))
        bench.begin(second[0])

    bench.begin(neighbour, tell_and_register)
    bench.begin(first)
    bench.mac.kill(neighbour)
    bench.mac.kill(first)
    bench.settle(0.1)
    early = sorted(bench.told)
    bench.mac.kill(second[0])
    bench.settle(0.1)
    return early == [(1, 1, "gone"), (7, 2, "gone")] and bench.told[2:] == [(7, 3, "gone")] and bench.is_clean()


def test_events_are_matched_before_anybody_is_told():
    assert register_while_telling(Bench())


def test_whoever_is_cancelled_by_the_notice_of_another_is_not_told():
    bench = Bench()
    one, two = bench.mac.spawn(1), bench.mac.spawn(2)
    watches = {}

    def first_only(notice):
        bench.tell(notice)
        for each in watches.values():
            each.cancel()

    watches = {process.pid: bench.begin(process, first_only) for process in (one, two)}
    bench.mac.kill(one)
    bench.mac.kill(two)
    bench.settle(60)
    assert len(bench.told) == 1
    assert bench.is_clean()


# Where the kqueue refuses.


@pytest.mark.parametrize("where", ["queue_errno", "reader_errno"])
def test_without_a_queue_it_is_polled_and_the_next_may_have_one(where):
    bench = Bench()
    polled, told = bench.mac.spawn(1), bench.mac.spawn(2)
    setattr(bench.mac, where, errno.EMFILE)
    bench.begin(polled)
    assert bench.mac.queues == {}
    assert bench.watch.counts() == {"told": 0, "polled": 1}
    setattr(bench.mac, where, 0)
    bench.begin(told)
    assert bench.watch.counts() == {"told": 1, "polled": 1}
    bench.mac.kill(polled)
    bench.mac.kill(told)
    bench.settle(POLL_S)
    assert sorted(pid for pid, _, _ in bench.told) == [1, 2]
    assert bench.is_clean()


def test_a_filter_that_cannot_be_registered_is_polled():
    bench = Bench()
    first, second = bench.mac.spawn(1), bench.mac.spawn(2)
    bench.begin(first)
    (queue,) = bench.mac.queues.values()
    queue.refuses = errno.ENOMEM
    bench.begin(second)
    queue.refuses = 0
    assert bench.watch.counts() == {"told": 1, "polled": 1}
    bench.mac.kill(first)
    bench.mac.kill(second)
    bench.settle()
    assert bench.told == [(1, 1, "gone")]
    bench.settle(POLL_S)
    assert bench.told == [(1, 1, "gone"), (2, 2, "gone")]
    assert bench.is_clean()


def test_a_queue_that_cannot_be_read_leaves_everybody_polled_and_nothing_missed():
    bench = Bench()
    dead, living = bench.mac.spawn(1), bench.mac.spawn(2)
    bench.begin(dead)
    bench.begin(living)
    bench.mac.kill(dead)
    (queue,) = bench.mac.queues.values()
    queue.refuses = errno.EBADF
    bench.mac.turn()
    assert bench.mac.queues == bench.mac.readers == {}
    assert bench.told == []
    bench.settle(0.01)
    assert bench.told == [(1, 1, "gone")], "looked at at once"
    assert bench.watch.counts() == {"told": 0, "polled": 1}
    bench.mac.kill(living)
    bench.settle(POLL_S)
    assert bench.told[1:] == [(2, 2, "gone")]
    assert bench.is_clean()


def test_a_watch_that_was_lost_can_be_cancelled():
    bench = Bench()
    standing = bench.begin(bench.mac.spawn(1))
    (queue,) = bench.mac.queues.values()
    bench.mac.kill(bench.mac.table[1])
    queue.refuses = errno.EBADF
    bench.mac.turn()
    standing.cancel()
    bench.settle(60)
    assert bench.told == []
    assert bench.is_clean()


# Any order of events.


def any_order(seed, **parts):
    """Processes of four pids come and go, watches come and go, also from inside notices, and the loop reads now and
    then. Each standing watch of a process that is over must be told exactly once, and no other. What was wrong, or "".
    """
    bench = Bench(seed, **parts)
    mac, chance = bench.mac, random.Random(seed)
    everyone, standing, told = [], {}, []

    def on_death(key, process, _notice):
        told.append(key)
        wrong.extend([f"{key} told though alive"] if process.state == "running" else [])
        wrong.extend([f"{key} told though cancelled"] if standing.pop(key, None) is None else [])
        free = [pid for pid in range(1, 5) if pid not in mac.table]
        if free and chance.random() < 0.5:
            everyone.append(mac.spawn(chance.choice(free)))
            begin(latest=True)
        elif chance.random() < 0.5:
            begin()

    def begin(*, latest=False):
        if everyone:
            process, key = everyone[-1] if latest else chance.choice(everyone[-6:]), begin.count
            begin.count += 1
            standing[key] = (process, bench.begin(process, partial(on_death, key, process)))

    def cancel():
        standing.pop(chance.choice(sorted(standing)))[1].cancel()

    def step():
        living = list(mac.table.values())
        states = {state: [each for each in living if each.state == state] for state in ("running", "exiting", "zombie")}
        moves = [begin, begin, mac.turn, lambda: bench.world.advance(chance.choice([0, 0, 0, 1]))]
        free = [pid for pid in range(1, 5) if pid not in mac.table]
        moves += [lambda: everyone.append(mac.spawn(chance.choice(free)))] if free else []
        moves += [lambda: mac.begin_exit(chance.choice(states["running"]))] if states["running"] else []
        moves += [lambda: mac.exit(chance.choice(states["exiting"]))] if states["exiting"] else []
        moves += [lambda: mac.collect(chance.choice(states["zombie"]))] if states["zombie"] else []
        moves += [cancel] if standing else []
        chance.choice(moves)()

    begin.count = 0
    wrong = []
    for _ in range(200):
        step()
    bench.settle(2 * POLL_S)
    for key, (process, watch) in list(standing.items()):
        if process.state not in ("running", "exiting"):
            wrong.append(f"{key} was never told")
        watch.cancel()
    if len(set(told)) != len(told):
        wrong.append("told twice")
    if not bench.is_clean():
        wrong.append("something is left")
    return "; ".join(wrong)


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_events(seed):
    assert any_order(seed) == ""


# Mistakes that somebody could make here.


class NeverDeletes(Kqueue):
    """A filter that is registered again without deleting it first."""

    def _delete(self, queue, pid):
        pass


class MatchesLate(Kqueue):
    """Whom an event is for is looked up when it is told."""

    def _readable(self):
        for event in self._queue.control(None, EVENTS_MAX, 0):
            if found := self._attached.pop(event.ident, None):
                found.ended("kqueue NOTE_EXIT")
        self._close_if_unused()


class ClosesWhoeverIsThere(Kqueue):
    """Closing an old attachment takes the new one of the same pid with it."""

    def release(self, attached):
        attached = self._attached.get(attached.pid, attached)
        super().release(attached)


class KeepsQuietAboutTheOldOne(Kqueue):
    """Whoever had the pid before is not told that nobody watches it any more."""

    def attach(self, pid, ended, lost):
        self._attached.get(pid, self)._lost = None
        return super().attach(pid, ended, lost)

    _lost = None


class LooksFirst(ProcessWatch):
    """Looks, then registers, and does not look again."""

    def _begin(self, target):
        signal = self.look(target.instance)
        if signal.kind in OVER:
            self._deadlines.after((self, target.instance), 0.0, partial(self._died, target, signal))
        elif not self._attach(target) or target.attached is None:
            self._poll(target)


class TrustsTheLook(ProcessWatch):
    """Takes a refused registration for nothing, since the process is shown as running."""

    def _attach(self, target):
        super()._attach(target)
        return True


def reused_before_registering(bench):
    process = bench.mac.spawn(7)
    between(bench, lambda: (bench.mac.kill(process), bench.mac.spawn(7)))
    bench.begin(process)
    bench.settle(10)
    return bench.told == [(7, 1, "reused")] and bench.is_clean()


def exiting_when_registered(bench):
    process = bench.mac.spawn(7)
    bench.mac.begin_exit(process)
    bench.begin(process)
    bench.settle(0.1)
    return bench.told == [(7, 1, "gone")] and bench.is_clean()


@pytest.mark.parametrize(
    ("mistake", "caught_by"),
    [
        ({"notifier": NeverDeletes}, reuse_before_delivery),
        ({"notifier": MatchesLate}, register_while_telling),
        ({"notifier": KeepsQuietAboutTheOldOne}, reuse_before_delivery),
        ({"notifier": ClosesWhoeverIsThere}, register_while_telling),
        ({"watch": LooksFirst}, reused_before_registering),
        ({"watch": TrustsTheLook}, exiting_when_registered),
    ],
)
def test_a_mistake_is_caught(mistake, caught_by):
    assert caught_by(Bench())
    try:
        passed = caught_by(Bench(**mistake))
    except AssertionError:
        passed = False
    assert not passed


@pytest.mark.parametrize("mistake", [NeverDeletes, MatchesLate, KeepsQuietAboutTheOldOne, ClosesWhoeverIsThere])
def test_a_mistake_is_caught_by_any_order_too(mistake):
    def fails(seed):
        try:
            return any_order(seed, notifier=mistake) != ""
        except (AssertionError, KeyError):
            return True

    assert any(fails(seed) for seed in range(200))
