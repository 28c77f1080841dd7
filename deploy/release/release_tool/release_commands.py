"""The commands `release` and `rollback`: who may begin, what an earlier run left, and what happens on failure."""

import time

from release_tool.deployment import Deployment
from release_tool.errors import Interrupted, NotHealthy, Refused, ReleaseFailed, ToolError
from release_tool.images import PREVIOUS, Images
from release_tool.journal import Begin, Journal, JournalFile, Phase, how_to_begin, refuse_others
from release_tool.release import Plan, Release
from release_tool.replacement import wait_healthy
from release_tool.rollback import Rollback
from release_tool.stack import Container
from release_tool.traffic import GATEWAY, Traffic

_UNTOUCHED = (Phase.STARTING, Phase.SHIFTING)


def release(deployment: Deployment, plan: Plan, tag: str | None) -> None:
    """Release a new version of a service. What fails is undone, and then `ReleaseFailed` is raised."""
    deployment.service(plan.service)
    with deployment.alone(f"release of {plan.service}"):
        stack, console, journal_file = deployment.stack, deployment.console, deployment.journal_file
        stack.only(GATEWAY)
        traffic = Traffic(stack)
        journal = journal_file.read()
        refuse_others(plan.service, journal, traffic.weights())
        if journal is None or journal.phase in _UNTOUCHED:
            _require_health(deployment, plan.service)
        images = Images(stack, plan.service, deployment.root)
        tag, image = images.prepare(tag, console)
        rollback = Rollback(stack, images, traffic, journal_file, console, plan.service)
        leftovers = plan.service in traffic.weights() or bool(stack.containers(plan.candidate))
        begin = how_to_begin(image, journal, leftovers=leftovers)
        if begin is Begin.UNDO_FIRST:
            console.say("a release of another image is unfinished; undoing it first")
            rollback.run(journal)
        if journal is not None and begin is Begin.GO_ON:
            console.say(f"going on with the release of {images.name}:{journal.tag}; it was {journal.phase}")
        else:
            journal = _journal_of(deployment, plan.service, tag, image)
            journal_file.write(journal)
        work = Release(stack, images, traffic, journal_file, console, plan)
        _carry_out(deployment, work, rollback, journal)


def rollback(deployment: Deployment, service: str) -> None:
    """Undo an unfinished release."""
    deployment.service(service)
    with deployment.alone(f"rollback of {service}"):
        stack, journal_file = deployment.stack, deployment.journal_file
        stack.only(GATEWAY)
        traffic = Traffic(stack)
        journal, weights = journal_file.read(), traffic.weights()
        refuse_others(service, journal, weights)
        if journal is None and service not in weights and not stack.containers(f"{service}-v2"):
            raise Refused(
                f"no release of {service} is unfinished; to bring back what was there before the last one: "
                f"make release SERVICE={service} TAG={PREVIOUS}"
            )
        images = Images(stack, service, deployment.root)
        Rollback(stack, images, traffic, journal_file, deployment.console, service).run(journal)


def _journal_of(deployment: Deployment, service: str, tag: str, image: str) -> Journal:
    replicas = _require_health(deployment, service)
    return Journal(service, tag, image, previous=replicas[0].image, replicas=len(replicas), began=time.time())


def _require_health(deployment: Deployment, service: str) -> list[Container]:
    """Return the replicas in service, once those that are just starting are healthy. Raises `Refused`."""
    if not deployment.stack.containers(service):
        raise Refused(f"{service} does not run; start the platform with: make prod")
    try:
        return wait_healthy(deployment.stack, service, deployment.console)
    except NotHealthy as error:
        raise Refused(f"{service} has to be healthy before a release (mend it with: make prod), but {error}") from error


def _carry_out(deployment: Deployment, work: Release, rollback: Rollback, journal: Journal) -> None:
    try:
        work.run(journal)
    except ToolError as error:
        reached = _reached(deployment.journal_file, journal)
        if reached.phase is Phase.FINISHING:
            raise ReleaseFailed(
                f"the new version is in service, but v2 did not end; run the same again: {error}"
            ) from error
        # The end of a log may follow the first line, and is shown once.
        deployment.console.say(f"stopping the release: {error}")
        _undo(rollback, reached, error)
    except Interrupted:
        reached = _reached(deployment.journal_file, journal)
        service = f"SERVICE={reached.service}"
        deployment.console.line(
            f"interrupted while {reached.phase}; traffic stays as it is. To go on: make release {service} "
            f"TAG={reached.tag}; to undo: make rollback {service}"
        )
        raise


def _reached(journal_file: JournalFile, journal: Journal) -> Journal:
    return journal_file.read() or journal


def _undo(rollback: Rollback, journal: Journal, reason: ToolError) -> None:
    try:
        rollback.run(journal)
    except ToolError as error:
        raise ReleaseFailed(
            f"the release was stopped ({_summary(reason)}) and could not be undone: {error}\n"
            f"run: make rollback SERVICE={journal.service}"
        ) from error
    raise ReleaseFailed(
        f"{journal.service} is as it was before; the release was stopped: {_summary(reason)}"
    ) from reason


def _summary(error: ToolError) -> str:
    return str(error).partition("\n")[0].removesuffix("; the end of its log:").rstrip(":")
