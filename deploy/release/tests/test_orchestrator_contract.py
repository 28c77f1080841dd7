"""What a release relies on, held by every orchestrator: the fake of the unit tests, docker compose, and Kubernetes."""

from dataclasses import dataclass
from typing import Any

import pytest

from release_tool.cluster import Cluster
from release_tool.cluster_orchestrator import ClusterOrchestrator
from release_tool.compose import ComposeProject
from release_tool.compose_orchestrator import ComposeOrchestrator
from release_tool.console import Console
from release_tool.errors import CommandFailed, NotHealthy, Refused, StepFailed
from release_tool.images import ImageBuilder
from release_tool.orchestrator import PREVIOUS, Orchestrator


@dataclass(frozen=True)
class Engine:
    """An orchestrator, the fake that it works on, the images of `notes` by its names, and its gateway's address."""

    tested: Orchestrator
    platform: Any
    old: str
    new: str
    address: str


@pytest.fixture(params=["memory", "compose", "cluster"])
def engine(request, root) -> Engine:
    local = "http://127.0.0.1:8080"
    match request.param:
        case "memory":
            fake = request.getfixturevalue("orchestrator")
            return Engine(fake, fake, "old", "new", local)
        case "compose":
            docker = request.getfixturevalue("docker")
            project = ComposeProject(docker, root / "docker-compose.prod.yml")
            return Engine(ComposeOrchestrator(project, root, Console()), docker, "old", "new", local)
        case _:
            cluster = request.getfixturevalue("cluster")
            images = ImageBuilder(cluster, root, "registry", "built", Console())
            tested = ClusterOrchestrator(Cluster(cluster, cluster, "baseplate", "baseplate"), images, Console())
            return Engine(
                tested, cluster, "baseplate/notes:old", "baseplate/notes:2", "http://gateway.baseplate.svc:80"
            )


@pytest.fixture
def tested(engine) -> Orchestrator:
    return engine.tested


@pytest.fixture
def platform(engine) -> Any:
    return engine.platform


@pytest.fixture
def old(engine) -> str:
    return engine.old


@pytest.fixture
def new(engine) -> str:
    return engine.new


def images(tested, name):
    return [replica.image for replica in tested.replicas(name)]


def never(_replica):
    return False


def test_an_existing_image_is_found_by_its_tag_and_another_one_is_made(tested, old, new):
    assert tested.prepare_image("notes", "2") == ("2", new)
    tag, image = tested.prepare_image("notes", None)
    assert tag
    assert image not in ("", new, old)


def test_the_image_that_is_put_in_service_is_kept_apart_from_the_former_one(tested, old, new):
    assert tested.image_in_service("notes") == old

    for _ in range(2):
        tested.put_in_service("notes", new, former=old)

    assert tested.image_in_service("notes") == new
    assert tested.prepare_image("notes", PREVIOUS) == (PREVIOUS, old)


def test_a_canary_starts_once_beside_the_service_and_is_removed(tested, old, new):
    for _ in range(2):
        tested.migrate("notes", new)
        tested.start_canary("notes", new, 2)
    assert [replica.image for replica in tested.wait_healthy("notes-v2")] == [new, new]
    assert images(tested, "notes") == [old, old]

    for _ in range(2):
        tested.remove_canary("notes")
    assert tested.replicas("notes-v2") == []
    assert images(tested, "notes") == [old, old]


def test_replicas_are_listed_the_oldest_first(tested, new):
    tested.start_canary("notes", new, 3)
    created = [replica.created for replica in tested.replicas("notes-v2")]
    assert created == sorted(created)


def test_outdated_replicas_are_replaced_and_the_count_is_restored(tested, platform, new):
    tested.put_in_service("notes", new)

    tested.replace("notes", 2, lambda replica: replica.image != new)
    assert images(tested, "notes") == [new, new]
    kept = {replica.id for replica in tested.replicas("notes")}

    tested.replace("notes", 2, never)
    assert {replica.id for replica in tested.replicas("notes")} == kept
    tested.replace("notes", 3, never)
    assert len(tested.replicas("notes")) == 3
    tested.replace("notes", 2, never)
    assert len(tested.replicas("notes")) == 2


def test_a_replacement_that_is_not_healthy_leaves_as_many_healthy_replicas_as_before(tested, platform, old, new):
    platform.sick_images = {new}
    tested.put_in_service("notes", new)

    for _ in range(2):
        with pytest.raises(NotHealthy, match=r"is (unhealthy|restarting.*); the end of its log:\n"):
            tested.replace("notes", 2, lambda replica: replica.image != new)
        assert [replica.image for replica in tested.replicas("notes") if replica.healthy] == [old, old]


def test_what_does_not_run_cannot_become_healthy(tested):
    with pytest.raises(NotHealthy, match="no container of notes-v2 exists"):
        tested.wait_healthy("notes-v2")


def test_the_gateway_gives_a_canary_the_share_that_was_set_and_forgets_it(tested):
    assert tested.weights() == {}
    for weight in (0, 25, 25):
        tested.shift("notes", weight)
        assert tested.weights() == {"notes": weight}
    for _ in range(2):
        tested.end_shift("notes")
        assert tested.weights() == {}


def test_the_check_of_a_canary_fails_for_an_unhealthy_replica(tested, platform, new):
    tested.start_canary("notes", new, 1)
    tested.check_canary("notes")
    platform.sick_images = {new}
    tested.start_canary("notes", new, 2)
    with pytest.raises(StepFailed, match="v2"):
        tested.check_canary("notes")


def test_without_a_gateway_there_are_no_weights(tested, platform):
    platform.stop_everything()
    with pytest.raises(Refused, match="gateway does not run"):
        tested.weights()


def test_a_failed_migration_is_a_failed_command(tested, platform, new):
    def fail(words):
        if "migrate" in words or "notes-v2-migrate" in words:
            raise CommandFailed("the migration failed")

    platform.before = fail
    with pytest.raises(CommandFailed):
        tested.migrate("notes", new)


def test_the_gateways_address_is_a_url(tested, engine):
    assert tested.address() == engine.address
    assert tested.access_log(0.0, 1.0) == tested.access_log(0.0) == []
