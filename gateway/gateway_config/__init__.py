"""Renders the NGINX gateway's configuration from settings and a list of servers."""

from gateway_config.commands import check_command, start_command
from gateway_config.pools import Canary
from gateway_config.render import RenderError, render
from gateway_config.settings import GatewaySettings, SettingError

__all__ = [
    "Canary",
    "GatewaySettings",
    "RenderError",
    "SettingError",
    "check_command",
    "render",
    "start_command",
]
