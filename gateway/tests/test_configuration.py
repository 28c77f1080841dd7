"""NGINX accepts every configuration that can be rendered."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_config import Canary, GatewaySettings, render
from gateway_config.pools import Canaries
from opskit.catalog import ServiceEntry, read_catalog

pytestmark = pytest.mark.servers

CATALOG = read_catalog()
FIFTH = ServiceEntry("fifth_service", "fifth-things", 8005, "mongo", well_known=("/.well-known/fifth",))

VARIANTS: dict[str, GatewaySettings] = {
    "default": GatewaySettings(),
    "all limits off": GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0),
    "IPv6": GatewaySettings(bind="::1"),
    "behind proxies": GatewaySettings(trusted_proxies=("10.0.0.0/8", "2001:db8::/32")),
    "with origins": GatewaySettings(cors_allowed_origins=("https://a.example", "http://[::1]:3000")),
    "paths with spaces": GatewaySettings(access_log="an access.log"),
    "a frontend": GatewaySettings(static_dir="/srv/a frontend/", static_csp="default-src 'self'; img-src *"),
    "direct ports": GatewaySettings(direct_ports=True),
    **{
        f"traced share {share}": GatewaySettings(traced_share=share)
        for share in (0.0, 0.0001, 0.01, 0.29, 0.99999, 1.0)
    },
}

Accepts = Callable[..., Awaitable[None]]


@pytest.fixture
def accepts(machine: GatewaySettings, check: Callable[[Path], Awaitable[str]], tmp_path: Path) -> Accepts:
    """Return what renders a configuration and asserts that NGINX accepts it."""

    async def accepts(
        settings: GatewaySettings,
        catalog: Mapping[str, ServiceEntry] = CATALOG,
        servers: tuple[str, ...] = ("127.0.0.1:9001", "[::1]:9002"),
        canaries: Canaries | None = None,
    ) -> None:
        settings = replace(settings, modules=machine.modules, worker_user=machine.worker_user)
        render(settings, catalog, dict.fromkeys(catalog, servers), tmp_path, canaries=canaries)
        assert await check(tmp_path) == ""

    return accepts


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
async def test_nginx_accepts_the_configuration(accepts: Accepts, settings: GatewaySettings) -> None:
    await accepts(settings)


@pytest.mark.parametrize("resolver", ["127.0.0.11", "::1"])
async def test_nginx_accepts_names_that_it_resolves_itself(accepts: Accepts, resolver: str) -> None:
    await accepts(GatewaySettings(resolver=resolver), servers=("localhost:8000",))


async def test_nginx_accepts_another_service(accepts: Accepts) -> None:
    await accepts(GatewaySettings(), {"fifth_service": FIFTH})


@pytest.mark.parametrize("weight", [0, 1, 99, 100])
async def test_nginx_accepts_every_weight_of_a_release(accepts: Accepts, weight: int) -> None:
    await accepts(GatewaySettings(), canaries={name: Canary(["127.0.0.1:9009"], weight) for name in CATALOG})
