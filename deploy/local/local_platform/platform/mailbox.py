"""The mailbox of `make run`: where it is, its process, and the settings by which the user service sends mails."""

import sys
from pathlib import Path

from local_platform.environment import known_variables
from local_platform.layout import Layout
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST
from local_platform.supervision.probes import check_port_open
from local_platform.supervision.process import Command

NAME = "mail"
_OTHER_SERVERS = ("SMTP_URL", "SMTP_URL_FILE")


class Mailbox:
    """A mail server that keeps mails in `DATA_DIR/mail`."""

    def __init__(self, layout: Layout, port: int, gateway_url: str) -> None:
        self._layout = layout
        self._port = port
        self._gateway_url = gateway_url

    @property
    def folder(self) -> Path:
        return self._layout.root / NAME

    @property
    def url(self) -> str:
        return f"smtp://{HOST}:{self._port}"

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the environment does not give: this server, and links to the gateway."""
        given = known_variables()
        own = {"FRONTEND_URL": self._gateway_url}
        if not any(given.get(name) for name in _OTHER_SERVERS):
            own["SMTP_URL"] = self.url
        return {name: value for name, value in own.items() if not given.get(name)}

    def process_spec(self) -> ProcessSpec:
        """Return the server's process."""

        async def probe() -> str:
            await check_port_open(HOST, self._port)
            return str(self.folder)

        return ProcessSpec(
            name=NAME,
            service=NAME,
            url=self.url,
            command=Command(
                argv=[sys.executable, "-m", "local_platform.platform.mail_server", str(self._port), str(self.folder)],
                directory=self._layout.work(NAME),
                log=self._layout.log(NAME),
                environment=known_variables(),
                forked=True,
            ),
            probe=probe,
            stop_seconds=3.0,
        )
