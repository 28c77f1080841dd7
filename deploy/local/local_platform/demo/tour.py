"""The tour: steps in their order, what they share, and how they end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from local_platform.demo.platform import RunningPlatform
from local_platform.demo.report import Report

TIMEOUT_SECONDS = 20.0


class ClaimFailed(Exception):
    """The platform did not do what a step claims."""

    def __init__(self, claim: str, found: object) -> None:
        super().__init__(claim)
        self.claim = claim
        self.found = str(found)


@dataclass(slots=True)
class Visit:
    """What the steps of one tour share. `account` and `token` are there after the first step."""

    platform: RunningPlatform
    report: Report
    client: httpx2.Client
    account: Mapping[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False)

    @property
    def signed_in(self) -> dict[str, str]:
        """Return the header that tells who asks."""
        return {"Authorization": f"Bearer {self.token}"}

    def claim(self, claim: str, holds: bool, found: object = "the opposite") -> None:
        """Report a claim that holds. Raises ClaimFailed for one that does not."""
        if not holds:
            raise ClaimFailed(claim, found)
        self.report.passed(claim)

    def answered(self, claim: str, answer: httpx2.Response, status: int) -> httpx2.Response:
        """Claim that an answer has this status, and return it."""
        self.claim(claim, answer.status_code == status, f"{answer.status_code} {answer.text[:300]}")
        return answer


@dataclass(frozen=True, slots=True)
class Step:
    """One stop. It is left out where a service that it needs does not run."""

    title: str
    run: Callable[[Visit], None]
    needs: tuple[str, ...] = ()


def take(platform: RunningPlatform, report: Report, steps: Sequence[Step]) -> bool:
    """Take all steps that this platform has; return whether everything was as claimed."""
    possible = [step for step in steps if all(platform.urls(service) for service in step.needs)]
    with httpx2.Client(base_url=platform.gateway, timeout=TIMEOUT_SECONDS) as client:
        visit = Visit(platform, report, client)
        for number, step in enumerate(possible, start=1):
            report.heading(number, step.title)
            try:
                step.run(visit)
            except ClaimFailed as failure:
                report.failed(failure.claim, failure.found)
                report.end("The tour ends here: this is not as claimed.", good=False)
                return False
            except httpx2.HTTPError as error:
                report.failed("the platform answers", f"{type(error).__name__} {error}")
                report.end("The tour ends here: is the platform still running?", good=False)
                return False
    report.end(f"{len(possible)} steps, everything as claimed.", good=True)
    return True
