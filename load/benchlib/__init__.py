"""The harness of the benchmarks: subjects run in turn for short slices, and ratios are taken within each round.

    from benchlib import Subject, at_least, main

    async def measure(run):
        one, other = run.http("bare", url_of_bare, request), run.http("stack", url_of_stack, request)
        await run.compare([one, other])
        run.ratio("stack against bare", "rate", other, one, at_least(0.85))

    if __name__ == "__main__":
        main(measure, __doc__)

`load/README.md` explains the tables and the JSON.
"""

from benchlib.client import UNIQUE, Client, http_request
from benchlib.command import Run, main
from benchlib.processes import ProcessGroup
from benchlib.report import Aim, at_least, at_most
from benchlib.samples import Sample, Subject, calls, repeated

__all__ = [
    "UNIQUE",
    "Aim",
    "Client",
    "ProcessGroup",
    "Run",
    "Sample",
    "Subject",
    "at_least",
    "at_most",
    "calls",
    "http_request",
    "main",
    "repeated",
]
