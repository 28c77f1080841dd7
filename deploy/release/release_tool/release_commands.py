"""The commands `release`, `rollback` and `restart`."""

from collections.abc import Sequence

from release_tool.deployment import Deployment
from release_tool.errors import Refused
from release_tool.images import CURRENT, PREVIOUS
from release_tool.journal import Begin, Phase, how_to_begin, refuse_others
from release_tool.release import Plan
from release_tool.release_run import ReleaseRun
from release_tool.replacement import replace


def release(deployment: Deployment, plan: Plan, tag: str | None) -> None:
    """Release a new version of a service. What fails is undone, and then `ReleaseFailed` is raised."""
    deployment.service(plan.service)
    with deployment.alone(f"release of {plan.service}"):
        run, console = ReleaseRun(deployment, plan), deployment.console
        journal = deployment.journal_file.read()
        refuse_others(plan.service, journal, run.traffic.weights())
        if journal is None or journal.phase in (Phase.STARTING, Phase.SHIFTING):
            run.healthy_replicas()
        tag, image = run.images.prepare(tag, console)
        begin = how_to_begin(image, journal, leftovers=run.leftovers())
        if begin is Begin.UNDO_FIRST:
            console.say("a release of another image is unfinished; undoing it first")
            run.undo(journal)
        if journal is not None and begin is Begin.GO_ON:
            console.say(f"going on with the release of {run.images.name}:{journal.tag}; it was {journal.phase}")
        else:
            journal = run.begin(tag, image)
        run.carry_out(journal)
        console.say(
            f"released {run.images.name}:{journal.tag}; back to the version before it: "
            f"make release SERVICE={plan.service} TAG={PREVIOUS}"
        )


def rollback(deployment: Deployment, service: str) -> None:
    """Undo an unfinished release."""
    deployment.service(service)
    with deployment.alone(f"rollback of {service}"):
        run = ReleaseRun(deployment, Plan(service))
        journal = deployment.journal_file.read()
        refuse_others(service, journal, run.traffic.weights())
        if journal is None and not run.leftovers():
            raise Refused(
                f"no release of {service} is unfinished; to bring back what was there before the last one: "
                f"make release SERVICE={service} TAG={PREVIOUS}"
            )
        run.undo(journal)


def restart(deployment: Deployment, services: Sequence[str]) -> None:
    """Replace every replica of the services, of all if none is named. Raises `ToolError` for whatever stops it.

    An address that leaves the DNS is still used for a moment, and requests that must not be repeated would fail then.
    So a restart is a release of the image that is in service: v2 carries the traffic while the replicas are replaced.
    """
    for service in services:
        deployment.service(service)
    with deployment.alone("restart"):
        unfinished = deployment.journal_file.read()
        # One that an interrupted run left comes first, because two cannot be under way.
        for service in sorted(
            services or deployment.catalog, key=lambda name: not (unfinished and unfinished.service == name)
        ):
            _restart(deployment, service)
        deployment.console.say("every replica was replaced")


def _restart(deployment: Deployment, service: str) -> None:
    # Nothing is watched: the code is known.
    run = ReleaseRun(deployment, Plan(service, steps=()))
    stack, console, journal = deployment.stack, deployment.console, deployment.journal_file.read()
    if journal and (journal.service, journal.tag) != (service, CURRENT):
        deployment.refuse_during_release("restart")
    if journal is None:
        refuse_others(service, None, run.traffic.weights())
        if run.leftovers():
            run.undo(None)
        present = stack.containers(service)
        if not all(container.healthy for container in present):
            console.say(f"{service}: replacing what is not healthy")
            replace(stack, service, len(present), lambda _container: False, console)
        journal = run.begin(CURRENT, run.images.id(CURRENT) or "")
    console.say(f"{service}: replacing {journal.replicas} replicas")
    run.carry_out(journal)
