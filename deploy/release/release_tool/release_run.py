"""What a release, a rollback and a restart have in common: their parts, health before, and what follows a failure."""

import time

from release_tool.compose import Container
from release_tool.compose_orchestrator import GATEWAY, Traffic
from release_tool.deployment import Deployment
from release_tool.errors import Interrupted, NotHealthy, Refused, ReleaseFailed, ToolError
from release_tool.images import Images
from release_tool.journal import Journal, Phase
from release_tool.release import Plan, Release
from release_tool.replacement import LOG_FOLLOWS, wait_healthy
from release_tool.rollback import Rollback


class ReleaseRun:
    """One run of the tool on one service of a running platform; hold the deployment's lock meanwhile."""

    def __init__(self, deployment: Deployment, plan: Plan) -> None:
        """Raises `Refused` when the platform does not run."""
        self._deployment = deployment
        self._plan = plan
        stack, file, console = deployment.stack, deployment.journal_file, deployment.console
        stack.only(GATEWAY)
        self.traffic = Traffic(stack)
        self.images = Images(stack, plan.service, deployment.root)
        self._release = Release(stack, self.images, self.traffic, file, console, plan)
        self._rollback = Rollback(stack, self.images, self.traffic, file, console, plan.service)

    def leftovers(self) -> bool:
        """Whether the gateway or docker knows a v2 of the service."""
        service = self._plan.service
        return service in self.traffic.weights() or bool(self._deployment.stack.containers(self._plan.candidate))

    def healthy_replicas(self) -> list[Container]:
        """Return the replicas in service, once those that are just starting are healthy. Raises `Refused`."""
        service, stack = self._plan.service, self._deployment.stack
        if not stack.containers(service):
            raise Refused(f"{service} does not run; start the platform with: make prod")
        try:
            return wait_healthy(stack, service, self._deployment.console)
        except NotHealthy as error:
            raise Refused(f"{service} has to be healthy before (mend it with: make prod), but {error}") from error

    def begin(self, tag: str, image: str) -> Journal:
        """Write and return the journal of a release of an image. Raises `Refused` while the service is not healthy."""
        replicas = self.healthy_replicas()
        journal = Journal(
            self._plan.service, tag, image, previous=replicas[0].image, replicas=len(replicas), began=time.time()
        )
        self._deployment.journal_file.write(journal)
        return journal

    def undo(self, journal: Journal | None) -> None:
        """Undo an unfinished release, or end a v2 that is nobody's."""
        self._rollback.run(journal)

    def carry_out(self, journal: Journal) -> None:
        """Go on with a release to its end; undo it when it fails, and raise `ReleaseFailed`."""
        try:
            self._release.run(journal)
        except ToolError as error:
            reached = self._reached(journal)
            if reached.phase is Phase.FINISHING:
                raise ReleaseFailed(
                    f"the new replicas are in service, but v2 did not end; run the same again: {error}"
                ) from error
            self._deployment.console.say(f"stopping: {error}")
            self._undo_after(error, reached)
        except Interrupted:
            reached = self._reached(journal)
            self._deployment.console.line(
                f"interrupted while {reached.phase}; traffic stays as it is. To go on: {reached.command}; "
                f"to undo: make rollback SERVICE={reached.service}"
            )
            raise

    def _reached(self, journal: Journal) -> Journal:
        return self._deployment.journal_file.read() or journal

    def _undo_after(self, reason: ToolError, journal: Journal) -> None:
        try:
            self.undo(journal)
        except ToolError as error:
            raise ReleaseFailed(
                f"stopped ({_summary(reason)}), and could not be undone: {error}\n"
                f"run: make rollback SERVICE={journal.service}"
            ) from error
        raise ReleaseFailed(f"{journal.service} is as it was before; stopped, because {_summary(reason)}") from reason


def _summary(error: ToolError) -> str:
    """Return the first line and, of a command that failed, the last one, which says why."""
    first, _, rest = str(error).partition("\n")
    if first.endswith(LOG_FOLLOWS):
        # That was shown.
        return first.removesuffix(LOG_FOLLOWS)
    last = rest.strip().rpartition("\n")[2].strip()
    return f"{first} {last}" if last else first.rstrip(":")
