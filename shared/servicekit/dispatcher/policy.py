"""How calls behave: every limit of the dispatcher in one place. Times are in seconds."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """How one call behaves. A peer has one; a single call may bring its own."""

    # Attempts in all, the first one included.
    attempts: int = 3
    # Time for the whole call: attempts, waits, everything.
    deadline: float = 10.0
    # Time for one attempt while another could follow, so that one hanging replica does not use up the whole call.
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
    """What all calls of this process to one peer share."""

    # Calls in flight; beyond it `BulkheadFull`.
    max_in_flight: int = 128
    # Failures in a row that open the circuit, and how long it stays open before one probe is let through.
    breaker_threshold: int = 5
    breaker_pause: float = 2.0
    # Each call earns this share of a retry.
    retry_share: float = 0.1
    # Retries that a quiet service may make; when used up they come back at one a second.
    retry_reserve: int = 10
    # How long a replica that could not be reached comes last.
    replica_pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A service that is called, at one base URL for each of its replicas."""

    name: str
    urls: tuple[str, ...]
    policy: CallPolicy = field(default_factory=CallPolicy)
    limits: PeerLimits = field(default_factory=PeerLimits)

    def __post_init__(self) -> None:
        if not self.urls or not all(map(_is_base_url, self.urls)):
            # The URLs are left out: a wrong one may hold a password.
            raise ValueError(f"peer {self.name!r} needs base URLs such as http://host:port, without a path")


def _is_base_url(url: str) -> bool:
    parts = urlsplit(url)
    bare = not (parts.path.rstrip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and bare
