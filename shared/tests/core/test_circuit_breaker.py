"""The circuit breaker as a state machine, with a clock that the test moves."""

import random

import pytest

from servicekit.core.circuit_breaker import CircuitBreaker, CircuitState, Outcome

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
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(threshold=5, pause=PAUSE, clock=clock)


def record(breaker: CircuitBreaker, outcome: Outcome) -> None:
    permit = breaker.try_acquire()
    assert permit is not None
    breaker.record(permit, outcome)


def open_circuit(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        record(breaker, Outcome.FAILURE)


def test_opens_after_five_failures_in_a_row(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        record(breaker, Outcome.FAILURE)
    assert breaker.state is CircuitState.CLOSED

    record(breaker, Outcome.FAILURE)

    assert breaker.state is CircuitState.OPEN
    assert breaker.try_acquire() is None


def test_one_success_resets_the_count(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        for _ in range(4):
            record(breaker, Outcome.FAILURE)
        record(breaker, Outcome.SUCCESS)

    assert breaker.state is CircuitState.CLOSED


def test_attempts_with_an_unknown_outcome_neither_count_nor_reset(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        record(breaker, Outcome.FAILURE)
    for _ in range(20):
        record(breaker, Outcome.UNKNOWN)
    assert breaker.state is CircuitState.CLOSED

    record(breaker, Outcome.FAILURE)

    assert breaker.state is CircuitState.OPEN


def test_stays_open_for_the_pause_and_tells_the_time_left(breaker: CircuitBreaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE - 0.5

    assert breaker.try_acquire() is None
    assert breaker.retry_after() == pytest.approx(0.5)


def test_exactly_one_probe_is_permitted_after_the_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE

    permits = [breaker.try_acquire() for _ in range(100)]

    assert sum(permit is not None for permit in permits) == 1
    assert permits[0] is not None
    assert breaker.state is CircuitState.HALF_OPEN


def test_successful_probe_closes_the_circuit(breaker: CircuitBreaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE
    record(breaker, Outcome.SUCCESS)

    assert breaker.state is CircuitState.CLOSED
    assert all(breaker.try_acquire() is not None for _ in range(10))


def test_failed_probe_opens_the_circuit_for_a_whole_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE
    record(breaker, Outcome.FAILURE)
    clock.now += PAUSE - 0.1
    assert breaker.try_acquire() is None

    clock.now += 0.1

    assert breaker.try_acquire() is not None


def test_abandoned_probe_lets_the_next_attempt_be_the_probe(breaker: CircuitBreaker, clock: Clock) -> None:
    open_circuit(breaker)
    clock.now += PAUSE
    record(breaker, Outcome.UNKNOWN)

    permits = [breaker.try_acquire() for _ in range(10)]

    assert sum(permit is not None for permit in permits) == 1


@pytest.mark.parametrize("late", list(Outcome))
def test_attempt_from_before_the_circuit_opened_does_not_decide_about_the_probe(
    breaker: CircuitBreaker, clock: Clock, late: Outcome
) -> None:
    old = breaker.try_acquire()
    assert old is not None
    open_circuit(breaker)
    breaker.record(old, late)
    assert breaker.state is CircuitState.OPEN

    clock.now += PAUSE
    probe = breaker.try_acquire()
    assert probe is not None
    breaker.record(old, late)

    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.try_acquire() is None


def test_late_failures_do_not_open_a_circuit_that_has_recovered(breaker: CircuitBreaker, clock: Clock) -> None:
    old = [breaker.try_acquire() for _ in range(10)]
    open_circuit(breaker)
    clock.now += PAUSE
    record(breaker, Outcome.SUCCESS)

    for permit in old:
        assert permit is not None
        breaker.record(permit, Outcome.FAILURE)

    assert breaker.state is CircuitState.CLOSED


def test_every_change_is_reported_once(clock: Clock) -> None:
    changes: list[CircuitState] = []
    breaker = CircuitBreaker(threshold=1, pause=PAUSE, clock=clock, on_change=changes.append)
    record(breaker, Outcome.SUCCESS)
    record(breaker, Outcome.FAILURE)
    clock.now += PAUSE
    record(breaker, Outcome.SUCCESS)

    assert changes == [CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED]


def test_no_order_of_events_permits_two_probes_or_blocks_the_circuit(clock: Clock) -> None:
    random_ = random.Random(3)
    breaker = CircuitBreaker(threshold=3, pause=1.0, clock=clock)
    out: list[int] = []
    probes: set[int] = set()
    for _ in range(20_000):
        clock.now += random_.uniform(0, 0.5)
        if random_.random() < 0.5:
            permit = breaker.try_acquire()
            if permit is not None:
                out.append(permit)
                if breaker.state is CircuitState.HALF_OPEN:
                    assert permit not in probes
                    probes.add(permit)
        elif out:
            breaker.record(out.pop(random_.randrange(len(out))), random_.choice(list(Outcome)))
    for permit in out:
        breaker.record(permit, Outcome.UNKNOWN)
    clock.now += 1.0

    assert len(probes) > 100
    assert breaker.try_acquire() is not None
