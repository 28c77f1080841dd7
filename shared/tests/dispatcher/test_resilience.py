"""Replicas, bulkhead and the declarations of peers and policies."""

from collections import Counter

import pytest

from servicekit.dispatcher.policy import CallPolicy, Peer
from servicekit.dispatcher.resilience import Bulkhead, Replicas

A, B, C = "http://a", "http://b", "http://c"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def replicas(clock: Clock) -> Replicas:
    return Replicas((A, B, C), pause=1.0, clock=clock)


def test_replicas_share_the_load_evenly(replicas: Replicas) -> None:
    assert Counter(replicas.pick() for _ in range(300)) == {A: 100, B: 100, C: 100}


def test_retry_goes_to_another_replica(replicas: Replicas) -> None:
    for _ in range(30):
        first = replicas.pick()
        assert replicas.pick(tried=first) != first


def test_single_replica_is_tried_again(clock: Clock) -> None:
    replicas = Replicas((A,), pause=1.0, clock=clock)
    replicas.failed(A)

    assert replicas.pick(tried=A) == A


def test_replica_that_failed_is_passed_over_for_the_pause(replicas: Replicas, clock: Clock) -> None:
    replicas.failed(B)
    clock.now += 0.9

    assert Counter(replicas.pick() for _ in range(300))[B] == 0


def test_after_the_pause_one_attempt_finds_out_while_others_avoid_it(replicas: Replicas, clock: Clock) -> None:
    replicas.failed(B)
    clock.now += 1.0

    assert Counter(replicas.pick() for _ in range(300))[B] == 1


def test_replica_that_answers_again_takes_its_share_again(replicas: Replicas) -> None:
    replicas.failed(B)
    replicas.responded(B)

    assert Counter(replicas.pick() for _ in range(300))[B] == 100


def test_with_all_replicas_failing_each_is_still_tried(replicas: Replicas) -> None:
    for url in (A, B, C):
        replicas.failed(url)

    assert {replicas.pick() for _ in range(3)} == {A, B, C}


def test_trailing_slash_of_a_base_url_makes_no_double_one(clock: Clock) -> None:
    assert Replicas(("http://a/",), pause=1.0, clock=clock).pick() == "http://a"


def test_bulkhead_takes_as_many_as_its_limit_and_more_after_some_left() -> None:
    bulkhead = Bulkhead(3)
    assert [bulkhead.try_acquire() for _ in range(5)] == [True, True, True, False, False]

    bulkhead.release()

    assert [bulkhead.try_acquire() for _ in range(2)] == [True, False]
    assert bulkhead.in_flight == 3


@pytest.mark.parametrize(
    "urls",
    [
        (),
        ("a:80",),
        ("ftp://a",),
        ("http://",),
        ("http://user:secret@a",),
        ("http://a/api",),
        ("http://a?x=1",),
        ("http://a#x",),
        ("http://a", "b"),
    ],
)
def test_peer_needs_base_urls(urls: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="peer 'user'"):
        Peer("user", urls)


def test_error_about_a_base_url_does_not_repeat_a_password() -> None:
    with pytest.raises(ValueError, match="peer") as caught:
        Peer("user", ("http://user:hunter2@a",))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"deadline": 0.0}, {"attempt_timeout": -1.0}, {"connect_timeout": 0.0}]
)
def test_policy_that_allows_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="policy"):
        CallPolicy(**wrong)  # type: ignore[arg-type]
