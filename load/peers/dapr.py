"""Dapr: a sidecar beside each service, mTLS between the sidecars, certificates from Dapr's own authority (sentry).

Both programs are built from Dapr's module without its optional components; names are resolved by its SQLite component.
Dapr's defaults stay, such as its metrics; traces are off, like the platform's.
"""

import json
from pathlib import Path

from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.supervisor import Supervisor
from peers.obtaining import GoProgram
from peers.side import healthy, start

_RESOLVER = """package components

import (
	"github.com/dapr/components-contrib/nameresolution/sqlite"
	"github.com/dapr/dapr/pkg/components/nameresolution"
)

func init() {
	nameresolution.DefaultRegistry.RegisterComponent(sqlite.NewResolver, "sqlite")
}
"""
NAME = "dapr"
PROGRAM = GoProgram(
    name=NAME,
    module="github.com/dapr/dapr",
    version="v1.18.2",
    commands=["./cmd/daprd", "./cmd/sentry"],
    minutes=6,
    # Without tags for all components, this file makes daprd refuse to start.
    added={"cmd/daprd/components/zz_notag.go": _RESOLVER},
)


async def sidecars(home: Path, ports: PortAllocator, supervisor: Supervisor, *, caller: str, callee: str) -> str:
    """Start sentry and a sidecar for each service; return the URL by which the caller calls the callee.

    The callee has to run already. Raises CannotObtain.
    """
    commands = PROGRAM.obtain()
    credentials = home / "credentials"
    credentials.mkdir()
    configuration = home / "dapr.json"
    configuration.write_text(json.dumps(_configuration(home / "names.db")), encoding="utf-8")
    await start(
        supervisor,
        "sentry",
        [
            str(commands / "sentry"),
            *("--listen-address", HOST, "--port", str(ports.allocate("sentry"))),
            *("--healthz-listen-address", HOST, "--healthz-port", str(ports.allocate("sentry-health"))),
            *("--metrics-listen-address", HOST, "--metrics-port", str(ports.allocate("sentry-metrics"))),
            *("--issuer-credentials", str(credentials), "--trust-domain", "localhost"),
            *("--config", str(configuration)),
        ],
        f"http://{HOST}:{ports.allocate('sentry-health')}",
        home,
        probe=healthy(f"http://{HOST}:{ports.allocate('sentry-health')}/healthz"),
    )
    environment = _environment(credentials)
    for service in (callee, caller):
        port = {kind: str(ports.allocate(f"{service}-{kind}")) for kind in ("http", "grpc", "internal", "metrics")}
        url = f"http://{HOST}:{port['http']}"
        await start(
            supervisor,
            f"{service}-sidecar",
            [
                *(str(commands / "daprd"), "--app-id", service, "--app-port", str(ports.allocate(service))),
                *("--dapr-http-port", port["http"], "--dapr-grpc-port", port["grpc"]),
                *("--dapr-internal-grpc-port", port["internal"], "--metrics-port", port["metrics"]),
                *("--dapr-listen-addresses", HOST, "--dapr-internal-grpc-listen-address", HOST),
                *("--config", str(configuration)),
                *("--enable-mtls", "--sentry-address", f"{HOST}:{ports.allocate('sentry')}"),
                *("--control-plane-trust-domain", "localhost"),
            ],
            url,
            home,
            environment=environment,
            # The sidecar's own health also waits for its service, and the caller starts after its sidecar.
            probe=healthy(f"{url}/v1.0/healthz/outbound"),
        )
    return f"http://{HOST}:{ports.allocate(f'{caller}-http')}/v1.0/invoke/{callee}/method"


def _environment(credentials: Path) -> dict[str, str]:
    """Return what a sidecar has to know. Sentry writes the certificate of its authority before it is ready."""
    anchors = (credentials / "ca.crt").read_text(encoding="utf-8")
    return {"DAPR_TRUST_ANCHORS": anchors, "DAPR_HOST_IP": HOST, "NAMESPACE": "default"}


def _configuration(names: Path) -> dict[str, object]:
    resolution = {"component": "sqlite", "version": "v1", "configuration": {"connectionString": str(names)}}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": "peers"},
        "spec": {"nameResolution": resolution, "mtls": {"enabled": True}, "tracing": {"samplingRate": "0"}},
    }
