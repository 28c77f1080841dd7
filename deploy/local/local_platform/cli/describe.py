"""Writes the description of the whole API, as the gateway would publish it, without the stores.

Each service builds its document in a process of its own, as its settings and metrics are those of a whole process. A
small server publishes it, and the gateway merges the documents of all.
"""

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from local_platform.errors import ProcessFailed
from local_platform.layout import GATEWAY, GATEWAY_METRICS, Layout
from local_platform.platform.gateway import Gateway
from local_platform.platform.service_environment import keys_directory, service_environment, write_secrets
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.probes import NotReady, http_get, json_body, wait_until_ready
from opskit.atomic_file import write_atomically
from opskit.catalog import ServiceEntry, read_catalog
from servicekit.sealing.key_files import ensure_keys

READY_SECONDS: Final = 30.0
# Nothing connects to a store before the application's lifespan begins.
_STORE_URLS: Final = {
    "postgres": "postgresql+asyncpg://nobody:nothing@127.0.0.1:1/none",
    "mongo": "mongodb://127.0.0.1:1/none?replicaSet=none",
}
_VALKEY_URL: Final = "redis://127.0.0.1:1/0"
_PRINT_DOCUMENT: Final = "import json; from {package}.app import create_app; print(json.dumps(create_app().openapi()))"
# The service that signs tokens does not start without a key.
_WRITE_KEY: Final = (
    "import os, pathlib; from {package}.tokens.signing_keys import ensure_signing_key; "
    "ensure_signing_key(pathlib.Path(os.environ['JWT_KEYS_DIR'])); "
)


def write_description(target: Path) -> int:
    """Write the description into a file and say so."""
    document = asyncio.run(describe())
    write_atomically(target, as_text(document), mode=0o644)
    print(f"wrote {target}: {sum(map(len, document['paths'].values()))} operations")
    return 0


def as_text(document: Mapping[str, Any]) -> str:
    """Return the text of a description's file, which a comparison by lines suits."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


async def describe() -> dict[str, Any]:
    """Return the description of the API that this code has. Raises LaunchError."""
    catalog = read_catalog()
    with tempfile.TemporaryDirectory() as directory:
        layout = Layout.prepare(Path(directory))
        ensure_keys(keys_directory(layout), catalog)
        async with AsyncExitStack() as stack:
            documents = await asyncio.gather(*(_document(layout, entry) for entry in catalog.values()))
            ports = {
                name: {name: await stack.enter_async_context(_publishing(document))}
                for name, document in zip(catalog, documents, strict=True)
            }
            allocator = stack.enter_context(PortAllocator(layout.port_file))
            gateway = Gateway(
                layout, allocator.allocate(GATEWAY), allocator.allocate(GATEWAY_METRICS), catalog, ports, {}
            )
            await stack.enter_async_context(_running(gateway))
            return json_body((await http_get(f"{gateway.url}/openapi.json"))[1])


async def _document(layout: Layout, entry: ServiceEntry) -> bytes:
    """Return the document that a service publishes."""
    write_secrets(layout, entry, store_url=_STORE_URLS[entry.store or ""], valkey_url=_VALKEY_URL)
    code = (_WRITE_KEY if entry.issues_tokens else "") + _PRINT_DOCUMENT
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code.format(package=entry.package)),
        cwd=layout.root,
        env={**os.environ, **service_environment(layout, entry)},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise ProcessFailed(f"{entry.name} does not describe its API:\n{errors.decode(errors='replace')}")
    return output


@asynccontextmanager
async def _publishing(document: bytes) -> AsyncIterator[int]:
    """Respond with this document to every request while the context is open; yield the port."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(document)}\r\nConnection: close"

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + b"\r\n\r\n" + document)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(respond, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _running(gateway: Gateway) -> AsyncIterator[None]:
    """Run NGINX while the context is open."""
    spec = gateway.process_spec()
    with spec.command.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*spec.command.argv, cwd=spec.command.directory, stderr=log)
    try:
        await wait_until_ready(spec.probe, READY_SECONDS)
        yield
    except NotReady as error:
        raise ProcessFailed(f"the gateway does not start: {error}") from error
    finally:
        process.send_signal(spec.stop_signal)
        await process.wait()
        gateway.remove_cache()
