"""Which replica of a peer takes the next attempt."""

from collections.abc import Callable


class Replicas:
    """Base URLs in turn; one that could not be reached is passed over for a moment.

    Without the pause every second call would meet the dead one of two replicas, far beyond what the retry budget
    bridges. After the pause a single attempt tries it again while the others still avoid it.
    """

    def __init__(self, urls: tuple[str, ...], *, pause: float, clock: Callable[[], float]) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._pause = pause
        self._clock = clock
        self._next = 0
        self._avoided_until: dict[str, float] = {}

    def pick(self, tried: str | None = None) -> str:
        """Return the base URL for the next attempt, another than `tried` where there is one."""
        start = self._next
        self._next = (start + 1) % len(self._urls)
        if self._avoided_until or self._urls[start] == tried:
            return self._pick_around(self._urls[start:] + self._urls[:start], tried)
        return self._urls[start]

    def failed(self, url: str) -> None:
        """Pass `url` over for a moment."""
        self._avoided_until[url] = self._clock() + self._pause

    def answered(self, url: str) -> None:
        """Count `url` as reachable again."""
        if self._avoided_until:
            self._avoided_until.pop(url, None)

    def _pick_around(self, order: tuple[str, ...], tried: str | None) -> str:
        now = self._clock()
        others = [url for url in order if url != tried] or list(order)
        for url in others:
            avoided_until = self._avoided_until.get(url)
            if avoided_until is None:
                return url
            if avoided_until <= now:
                # This attempt finds out; until it has, the others go on avoiding the replica.
                self._avoided_until[url] = now + self._pause
                return url
        return others[0]
