"""The gateway's settings, read from environment variables.

Every value is written into an NGINX configuration file, so it is checked against a pattern that cannot contain a second
directive. `SettingError` names the variable.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")

DEFAULT_MAX_UPLOAD_BYTES = 100 * 1024 * 1024

_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9_./@+-][A-Za-z0-9_./@+ -]*")
_NAME = re.compile(r"[A-Za-z0-9._:/@+-]+")
_URL = re.compile(r"http://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-f:.]+\]):[0-9]{1,5}", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]*")
_CONTENT_POLICY = re.compile(r"[ !#%-\[\]-z|~]{1,2000}", re.ASCII)


class SettingError(ValueError):
    """An environment variable has a value that the gateway cannot use."""

    def __init__(self, variable: str, value: str, wanted: str) -> None:
        super().__init__(f"{variable} must be {wanted}, not {value!r}")
        self.variable = variable


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What differs between two gateways, apart from their servers.

    Rates are requests per second and client address; 0 switches a limit off. Relative paths are relative to the
    directory that NGINX runs in. `traced_share` is the share of requests that services record. It is 0 unless
    OTEL_EXPORTER_OTLP_ENDPOINT is set, and then 1 by default, as in the services. With `direct_ports` each service also
    has its own port, where nothing is checked or changed; this is for development only. `static_dir` is the folder of a
    built frontend, which is served at `/` with the Content-Security-Policy `static_csp`. On
    `metrics_port`, which must not be published, Prometheus finds `/metrics`; 0 opens no port. The gateway
    sends what it counts and sees to `console_url`, as this `instance` (default: the host's name); it then records a few
    traces each second if `limits_traces`. Of `gateways` that
    share the load, each lets its share of the rates through.
    """

    bind: str = "127.0.0.1"
    port: int = 8080
    rate_general: int = 100
    rate_auth: int = 5
    rate_upload: int = 5
    max_upload_bytes: int = DEFAULT_MAX_UPLOAD_BYTES
    trusted_proxies: tuple[str, ...] = ()
    cors_allowed_origins: tuple[str, ...] = ()
    token_issuer: str = "baseplate-user"
    token_audience: str = "baseplate"
    tls_certificate: str = ""
    tls_certificate_key: str = ""
    resolver: str = ""
    modules: tuple[str, ...] = ()
    worker_user: str = ""
    access_log: str = "access.log"
    files_dir: str = ""
    static_dir: str = ""
    static_csp: str = (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    )
    traced_share: float = 0.0
    direct_ports: bool = False
    metrics_port: int = 0
    console_url: str = ""
    limits_traces: bool = False
    instance: str = ""
    gateways: int = 1

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "GatewaySettings":
        """Read the variables of the README's table; a missing or empty one has its default.

        Raises `SettingError`, a `ValueError`, for the first variable with an invalid value.
        """
        defaults = cls()

        def read(variable: str, default: Value, parse: Callable[[str, str], Value]) -> Value:
            text = environ.get(variable, "").strip()
            return parse(variable, text) if text else default

        settings = cls(
            bind=read("GATEWAY_BIND", defaults.bind, _address),
            port=read("GATEWAY_PORT", defaults.port, _port),
            rate_general=read("GATEWAY_RATE_GENERAL", defaults.rate_general, _rate),
            rate_auth=read("GATEWAY_RATE_AUTH", defaults.rate_auth, _rate),
            rate_upload=read("GATEWAY_RATE_UPLOAD", defaults.rate_upload, _rate),
            max_upload_bytes=read("MAX_UPLOAD_BYTES", defaults.max_upload_bytes, _size),
            trusted_proxies=read("TRUSTED_PROXIES", defaults.trusted_proxies, _networks),
            cors_allowed_origins=read("CORS_ALLOWED_ORIGINS", defaults.cors_allowed_origins, _origins),
            token_issuer=read("TOKEN_ISSUER", defaults.token_issuer, _name),
            token_audience=read("TOKEN_AUDIENCE", defaults.token_audience, _name),
            tls_certificate=read("GATEWAY_TLS_CERTIFICATE", defaults.tls_certificate, _path),
            tls_certificate_key=read("GATEWAY_TLS_CERTIFICATE_KEY", defaults.tls_certificate_key, _path),
            resolver=read("GATEWAY_RESOLVER", defaults.resolver, _address),
            modules=read("GATEWAY_MODULES", defaults.modules, _paths),
            worker_user=read("GATEWAY_WORKER_USER", defaults.worker_user, _user),
            access_log=read("GATEWAY_ACCESS_LOG", defaults.access_log, _path),
            files_dir=read("GATEWAY_FILES_DIR", defaults.files_dir, _path),
            static_dir=read("STATIC_DIR", defaults.static_dir, _path),
            static_csp=read("STATIC_CSP", defaults.static_csp, _content_policy),
            traced_share=read("OTEL_TRACES_SAMPLER_ARG", 1.0, _share)
            if environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or environ.get("CONSOLE_URL", "").strip()
            else defaults.traced_share,
            console_url=read("CONSOLE_URL", defaults.console_url, _url),
            limits_traces=bool(environ.get("CONSOLE_URL", "").strip())
            and not environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip(),
            instance=read("LOG_NAME", defaults.instance, _name),
            direct_ports=read("GATEWAY_DIRECT_PORTS", defaults.direct_ports, _switch),
            metrics_port=read("GATEWAY_METRICS_PORT", defaults.metrics_port, _port),
        )
        if settings.tls_certificate and not settings.tls_certificate_key:
            raise SettingError("GATEWAY_TLS_CERTIFICATE_KEY", "", "set when GATEWAY_TLS_CERTIFICATE is")
        if settings.tls_certificate_key and not settings.tls_certificate:
            raise SettingError("GATEWAY_TLS_CERTIFICATE", "", "set when GATEWAY_TLS_CERTIFICATE_KEY is")
        return settings


def _whole(variable: str, text: str, lowest: int, highest: int, what: str) -> int:
    wanted = f"{what} from {lowest} to {highest}"
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise SettingError(variable, text, wanted)
    value = int(text)
    if not lowest <= value <= highest:
        raise SettingError(variable, text, wanted)
    return value


def _port(variable: str, text: str) -> int:
    return _whole(variable, text, 1, 65535, "a port")


def _switch(variable: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise SettingError(variable, text, "0 or 1")
    return text == "1"


def _rate(variable: str, text: str) -> int:
    return _whole(variable, text, 0, 1_000_000, "whole requests per second (0 = no limit)")


def _size(variable: str, text: str) -> int:
    return _whole(variable, text, 1, 2**50, "a number of bytes")


def _share(variable: str, text: str) -> float:
    share = float(text) if re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", text, re.ASCII) else -1.0
    # NGINX draws in steps of a hundredth of a percent.
    if share and not 0.0001 <= share <= 1:
        raise SettingError(variable, text, "0, or a share from 0.0001 to 1")
    return share


def _address(variable: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SettingError(variable, text, "an IP address") from None


def _networks(variable: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(item)) for item in _items(text))
    except ValueError as error:
        raise SettingError(variable, text, f"addresses or networks such as 10.0.0.0/8 ({error})") from None


def _origins(variable: str, text: str) -> tuple[str, ...]:
    origins = tuple(item.lower() for item in _items(text))
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingError(variable, origin, "origins such as https://app.example, without a path or wildcard")
    return tuple(dict.fromkeys(origins))


def _name(variable: str, text: str) -> str:
    return _matching(_NAME, variable, text, "letters, digits and . _ : / @ + -")


def _url(variable: str, text: str) -> str:
    return _matching(_URL, variable, text.rstrip("/"), "a URL such as http://console:8000")


def _user(variable: str, text: str) -> str:
    return _matching(_USER, variable, text, "a user name")


def _content_policy(variable: str, text: str) -> str:
    return _matching(_CONTENT_POLICY, variable, text, 'a Content-Security-Policy without any of " $ \\ { }')


def _path(variable: str, text: str) -> str:
    return _matching(_PATH, variable, text, "a path of letters, digits, spaces and . _ / @ + -")


def _paths(variable: str, text: str) -> tuple[str, ...]:
    return tuple(_path(variable, item) for item in _items(text))


def _matching(pattern: re.Pattern[str], variable: str, text: str, wanted: str) -> str:
    if not pattern.fullmatch(text):
        raise SettingError(variable, text, wanted)
    return text


def _items(text: str) -> list[str]:
    return [item for item in re.split(r"[,\s]+", text) if item]
