"""The limits of the dispatcher, all in one place. Times are in seconds."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """The limits of one call. Each peer has a policy; a single call may bring its own."""

    # All attempts, including the first.
    attempts: int = 3
    # For the whole call, attempts and waits together.
    deadline: float = 10.0
    # For one attempt that may be retried, so that one hanging replica does not use up the whole call.
    attempt_timeout: float = 5.0
    connect_timeout: float = 1.0
    # The nth wait is drawn evenly from [0, min(cap, base * 2^(n-1))]: "full jitter".
    backoff_base: float = 0.05
    backoff_cap: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.deadline, self.attempt_timeout, self.connect_timeout) <= 0:
            raise ValueError("a policy needs at least one attempt and times above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLimits:
    """The limits that all calls of this process to one peer share."""

    # Calls in flight; one more raises BulkheadFull.
    max_in_flight: int = 128
    # Failures in a row that open the circuit, and the pause before one probe may be made.
    breaker_threshold: int = 5
    breaker_pause: float = 2.0
    # The share of a retry that each call earns.
    retry_share: float = 0.1
    # Retries that a service with few calls may make. Those used up come back at one per second.
    retry_reserve: int = 10
    # How long a replica that could not be reached is passed over.
    replica_pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A service that is called. It has one base URL for each replica, or one that stands for all of them."""

    name: str
    urls: tuple[str, ...]
    policy: CallPolicy = field(default_factory=CallPolicy)
    limits: PeerLimits = field(default_factory=PeerLimits)

    def __post_init__(self) -> None:
        if not self.urls or not all(map(_is_base_url, self.urls)):
            # The text omits the URLs: a wrong one may hold a password.
            raise ValueError(f"peer {self.name!r} needs base URLs such as http://host:port, without a path")


def _is_base_url(url: str) -> bool:
    parts = urlsplit(url)
    bare = not (parts.path.rstrip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and bare
