"""Counts and histograms in steps of time, within a bound of bytes; the oldest steps go first."""

from array import array
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Final, Generic, TypeVar

# A step without its numbers: the objects around them, and the places in two queues.
STEP_BYTES: Final = 260

K = TypeVar("K", bound=Hashable)


class Sum:
    """What happened in some steps: calls, how many of them failed, and the histogram of their times."""

    __slots__ = ("bounds", "buckets", "calls", "failures")

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self.bounds = bounds
        self.calls = 0.0
        self.failures = 0.0
        self.buckets = [0.0] * (len(bounds) + 1)


class Window(Generic[K]):
    """The steps of one key. Each has calls, failures and the buckets of a histogram."""

    __slots__ = ("bounds", "key", "steps")

    def __init__(self, key: K, bounds: Sequence[float]) -> None:
        self.key = key
        self.bounds = bounds
        self.steps: deque[tuple[int, array[float]]] = deque()

    def sum(self, since: int, until: int | None = None) -> Sum:
        """Add up the steps from `since` to before `until`."""
        total = Sum(self.bounds)
        for step, values in self.steps:
            if step >= since and (until is None or step < until):
                _add(total, values)
        return total

    def each(self, since: int) -> Iterator[tuple[int, Sum]]:
        """Yield the steps from `since` on that have calls."""
        for step, values in self.steps:
            if step >= since:
                total = Sum(self.bounds)
                _add(total, values)
                yield step, total


def _add(total: Sum, values: "array[float]") -> None:
    total.calls += values[0]
    total.failures += values[1]
    for number, count in enumerate(values[2:]):
        total.buckets[number] += count


class Windows(Generic[K]):
    """The windows of all keys."""

    def __init__(self, *, step_seconds: float, keep_seconds: float, max_bytes: int) -> None:
        self.step_seconds = step_seconds
        self._keep_steps = int(keep_seconds / step_seconds)
        self._max_bytes = max_bytes
        self._windows: dict[K, Window[K]] = {}
        # The window of each step, in the order in which the steps began.
        self._order: deque[tuple[int, Window[K]]] = deque()
        self.bytes = 0

    def __iter__(self) -> Iterator[Window[K]]:
        return iter(list(self._windows.values()))

    def get(self, key: K) -> Window[K] | None:
        return self._windows.get(key)

    def step_at(self, seconds: float) -> int:
        """Return the number of the step at this time."""
        return int(seconds // self.step_seconds)

    def add(
        self,
        key: K,
        seconds: float,
        *,
        calls: float,
        failures: float = 0.0,
        buckets: Sequence[float] = (),
        bounds: Sequence[float] = (),
    ) -> None:
        """Count calls at this time. Buckets that do not fit the window's bounds are left out."""
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(key, bounds)
        elif bounds and not window.bounds:
            self._rebuild(window, bounds)
        values = self._values(window, self.step_at(seconds))
        values[0] += calls
        values[1] += failures
        if buckets and len(buckets) == len(window.bounds) + 1:
            for number, count in enumerate(buckets, 2):
                if count:
                    values[number] += count

    def _values(self, window: Window[K], step: int) -> "array[float]":
        if window.steps and window.steps[-1][0] >= step:
            # One that is late finds its step, or else counts in the last one.
            return next((each for number, each in reversed(window.steps) if number == step), window.steps[-1][1])
        values = array("d", bytes(8 * (len(window.bounds) + 3)))
        window.steps.append((step, values))
        self._order.append((step, window))
        self.bytes += _size(values)
        while len(self._order) > 1 and (self.bytes > self._max_bytes or self._order[0][0] < step - self._keep_steps):
            self._forget_oldest()
        return values

    def _rebuild(self, window: Window[K], bounds: Sequence[float]) -> None:
        """Give a window that had counts only a histogram, too."""
        window.bounds = bounds
        for number, (step, values) in enumerate(window.steps):
            longer = array("d", bytes(8 * (len(bounds) + 3)))
            longer[0], longer[1] = values[0], values[1]
            window.steps[number] = step, longer
            self.bytes += _size(longer) - _size(values)

    def _forget_oldest(self) -> None:
        _, window = self._order.popleft()
        _, values = window.steps.popleft()
        self.bytes -= _size(values)
        if not window.steps:
            del self._windows[window.key]


def _size(values: "array[float]") -> int:
    return STEP_BYTES + 8 * len(values)
