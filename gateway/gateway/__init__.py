"""Renders the NGINX gateway's configuration from settings and a list of servers."""

from gateway.commands import check_command, start_command
from gateway.render import RenderError, render
from gateway.settings import GatewaySettings, SettingError

__all__ = [
    "GatewaySettings",
    "RenderError",
    "SettingError",
    "check_command",
    "render",
    "start_command",
]
