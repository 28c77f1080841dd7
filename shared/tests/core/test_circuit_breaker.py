"""The circuit breaker as a state machine, with a clock that the test moves."""

import random

import pytest

from servicekit.core.circuit_breaker import Breaker, State, Verdict

PAUSE = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(threshold=5, pause=PAUSE, clock=clock)


def settle(breaker: Breaker, verdict: Verdict) -> None:
    permit = breaker.enter()
    assert permit is not None
    breaker.settle(permit, verdict)


def open_circuit(breaker: Breaker) -> None:
    for _ in range(5):
        settle(breaker, Verdict.FAILING)


def test_opens_after_five_failures_in_a_row(breaker: Breaker) -> None:
    for _ in range(4):
        settle(breaker, Verdict.FAILING)
    assert breaker.state is State.CLOSED

    settle(breaker, Verdict.FAILING)

    assert breaker.state is State.OPEN
    assert breaker.enter() is None


def test_one_success_begins_the_count_anew(breaker: Breaker) -> None:
    for _ in range(3):
        for _ in range(4):
            settle(breaker, Verdict.FAILING)
        settle(breaker, Verdict.HEALTHY)

    assert breaker.state is State.CLOSED


def test_attempts_that_tell_nothing_neither_count_nor_reset(breaker: Breaker) -> None:
    for _ in range(4):
        settle(breaker, Verdict.FAILING)
    for _ in range(20):
        settle(breaker, Verdict.UNKNOWN)
    assert breaker.state is State.CLOSED

    settle(breaker, Verdict.FAILING)

    assert breaker.state is State.OPEN


def test_stays_open_for_the_pause_and_says_how_long(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE - 0.5

    assert breaker.enter() is None
    assert breaker.retry_after() == pytest.approx(0.5)


def test_after_the_pause_exactly_one_probe_goes_out(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE

    permits = [breaker.enter() for _ in range(100)]

    assert sum(permit is not None for permit in permits) == 1
    assert permits[0] is not None
    assert breaker.state is State.HALF_OPEN


def test_successful_probe_closes(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE
    settle(breaker, Verdict.HEALTHY)

    assert breaker.state is State.CLOSED
    assert all(breaker.enter() is not None for _ in range(10))


def test_failed_probe_opens_for_a_whole_pause_again(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE
    settle(breaker, Verdict.FAILING)
    clock.now += PAUSE - 0.1
    assert breaker.enter() is None

    clock.now += 0.1

    assert breaker.enter() is not None


def test_cancelled_probe_gives_its_place_to_the_next_call(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE
    settle(breaker, Verdict.UNKNOWN)

    permits = [breaker.enter() for _ in range(10)]

    assert sum(permit is not None for permit in permits) == 1


@pytest.mark.parametrize("late", list(Verdict))
def test_attempt_from_before_the_circuit_opened_does_not_decide_about_the_probe(
    breaker: Breaker, clock: Clock, late: Verdict
) -> None:
    old = breaker.enter()
    assert old is not None
    open_circuit(breaker)
    breaker.settle(old, late)
    assert breaker.state is State.OPEN

    clock.now += PAUSE
    probe = breaker.enter()
    assert probe is not None
    breaker.settle(old, late)

    assert breaker.state is State.HALF_OPEN
    assert breaker.enter() is None


def test_late_failures_do_not_open_a_circuit_that_has_recovered(breaker: Breaker, clock: Clock) -> None:
    old = [breaker.enter() for _ in range(10)]
    open_circuit(breaker)
    clock.now += PAUSE
    settle(breaker, Verdict.HEALTHY)

    for permit in old:
        assert permit is not None
        breaker.settle(permit, Verdict.FAILING)

    assert breaker.state is State.CLOSED


def test_every_change_is_reported_once(clock: Clock) -> None:
    changes: list[State] = []
    breaker = Breaker(threshold=1, pause=PAUSE, clock=clock, on_change=changes.append)
    settle(breaker, Verdict.HEALTHY)
    settle(breaker, Verdict.FAILING)
    clock.now += PAUSE
    settle(breaker, Verdict.HEALTHY)

    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_no_order_of_events_lets_two_probes_out_or_wedges_it(clock: Clock) -> None:
    random_ = random.Random(3)
    breaker = Breaker(threshold=3, pause=1.0, clock=clock)
    out: list[int] = []
    probes: set[int] = set()
    for _ in range(20_000):
        clock.now += random_.uniform(0, 0.5)
        if random_.random() < 0.5:
            permit = breaker.enter()
            if permit is not None:
                out.append(permit)
                if breaker.state is State.HALF_OPEN:
                    assert permit not in probes
                    probes.add(permit)
        elif out:
            breaker.settle(out.pop(random_.randrange(len(out))), random_.choice(list(Verdict)))
    for permit in out:
        breaker.settle(permit, Verdict.UNKNOWN)
    clock.now += 1.0

    assert len(probes) > 100
    assert breaker.enter() is not None
