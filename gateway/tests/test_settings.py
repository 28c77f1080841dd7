"""Settings are read from the environment, and an invalid value is named."""

import dataclasses

import pytest

from gateway_config import GatewaySettings, SettingError


def test_by_default_nothing_is_trusted_and_everything_is_limited() -> None:
    settings = GatewaySettings.from_environ({})

    assert settings == GatewaySettings()
    assert (settings.rate_general, settings.rate_auth, settings.rate_upload) == (100, 5, 5)
    assert settings.trusted_proxies == settings.cors_allowed_origins == ()
    assert (settings.bind, settings.port) == ("127.0.0.1", 8080)
    assert settings.max_upload_bytes == 100 * 1024 * 1024


def test_an_empty_variable_means_the_default() -> None:
    names = ["GATEWAY_RATE_GENERAL", "TRUSTED_PROXIES", "CORS_ALLOWED_ORIGINS", "MAX_UPLOAD_BYTES", "GATEWAY_BIND"]

    assert GatewaySettings.from_environ(dict.fromkeys(names, " ")) == GatewaySettings()


def test_every_variable_is_read() -> None:
    settings = GatewaySettings.from_environ(
        {
            "GATEWAY_BIND": "0.0.0.0",
            "GATEWAY_PORT": "8443",
            "GATEWAY_RATE_GENERAL": "0",
            "GATEWAY_RATE_AUTH": "7",
            "GATEWAY_RATE_UPLOAD": "8",
            "MAX_UPLOAD_BYTES": "9",
            "TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1 2001:db8::/32",
            "CORS_ALLOWED_ORIGINS": "https://app.example,http://LOCALHOST:3000,https://app.example",
            "TOKEN_ISSUER": "issuer",
            "TOKEN_AUDIENCE": "audience",
            "GATEWAY_TLS_CERTIFICATE": "/run/tls/a b.pem",
            "GATEWAY_TLS_CERTIFICATE_KEY": "/run/tls/key.pem",
            "GATEWAY_RESOLVER": "127.0.0.11",
            "GATEWAY_MODULES": "modules/ngx_http_js_module.so",
            "GATEWAY_WORKER_USER": "nobody",
            "GATEWAY_ACCESS_LOG": "/dev/stdout",
            "GATEWAY_FILES_DIR": "/var/files",
            "STATIC_DIR": "/srv/a frontend",
            "STATIC_CSP": "default-src 'self'; img-src https://*.example:8443/a%20b",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
            "GATEWAY_DIRECT_PORTS": "1",
            "GATEWAY_METRICS_PORT": "9113",
            "CONSOLE_URL": "http://console:8000/",
            "LOG_NAME": "gateway-1",
        }
    )

    assert settings == GatewaySettings(
        bind="0.0.0.0",
        port=8443,
        rate_general=0,
        rate_auth=7,
        rate_upload=8,
        max_upload_bytes=9,
        trusted_proxies=("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"),
        cors_allowed_origins=("https://app.example", "http://localhost:3000"),
        token_issuer="issuer",
        token_audience="audience",
        tls_certificate="/run/tls/a b.pem",
        tls_certificate_key="/run/tls/key.pem",
        resolver="127.0.0.11",
        modules=("modules/ngx_http_js_module.so",),
        worker_user="nobody",
        access_log="/dev/stdout",
        files_dir="/var/files",
        static_dir="/srv/a frontend",
        static_csp="default-src 'self'; img-src https://*.example:8443/a%20b",
        traced_share=0.01,
        direct_ports=True,
        metrics_port=9113,
        console_url="http://console:8000",
        instance="gateway-1",
    )
    # The number of gateways is counted, and a share of traces leaves no place for a limit.
    variables = [field for field in dataclasses.fields(settings) if field.name not in ("gateways", "limits_traces")]
    assert all(getattr(settings, field.name) != field.default for field in variables)


@pytest.mark.parametrize(("share", "limited"), [("", True), ("0.5", False)], ids=["no-share", "share"])
def test_with_a_console_traces_are_limited_unless_a_share_decides(share: str, limited: bool) -> None:
    settings = GatewaySettings.from_environ({"CONSOLE_URL": "http://console:8000", "OTEL_TRACES_SAMPLER_ARG": share})

    assert (settings.limits_traces, settings.traced_share) == (limited, 0.5 if share else 1.0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_BIND", "localhost"),
        ("GATEWAY_BIND", "127.0.0.1; root /"),
        ("GATEWAY_PORT", "0"),
        ("GATEWAY_PORT", "65536"),
        ("GATEWAY_PORT", "http"),
        ("GATEWAY_DIRECT_PORTS", "yes"),
        ("GATEWAY_METRICS_PORT", "0"),
        ("CONSOLE_URL", "console:8000"),
        ("CONSOLE_URL", "http://console:8000; return 200"),
        ("LOG_NAME", "a b"),
        ("GATEWAY_RATE_GENERAL", "-1"),
        ("GATEWAY_RATE_GENERAL", "1.5"),
        ("GATEWAY_RATE_GENERAL", "10r/m"),
        ("GATEWAY_RATE_AUTH", "five"),
        ("GATEWAY_RATE_AUTH", "٥"),
        ("GATEWAY_RATE_UPLOAD", "1_0"),
        ("GATEWAY_RATE_UPLOAD", "9" * 30),
        ("MAX_UPLOAD_BYTES", "0"),
        ("MAX_UPLOAD_BYTES", "100M"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "everybody"),
        ("TRUSTED_PROXIES", "10.0.0.0/8; allow all"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("CORS_ALLOWED_ORIGINS", "null"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example/"),
        ("CORS_ALLOWED_ORIGINS", "https://*.example"),
        ("CORS_ALLOWED_ORIGINS", "app.example"),
        ("CORS_ALLOWED_ORIGINS", 'https://app.example";'),
        ("CORS_ALLOWED_ORIGINS", "~^https://.*"),
        ("TOKEN_ISSUER", "a b"),
        ("TOKEN_AUDIENCE", "$host"),
        ("TOKEN_AUDIENCE", 'a"b'),
        ("GATEWAY_TLS_CERTIFICATE", "/a;b"),
        ("GATEWAY_RESOLVER", "dns.example"),
        ("GATEWAY_MODULES", 'a.so";'),
        ("GATEWAY_WORKER_USER", "root wheel"),
        ("GATEWAY_ACCESS_LOG", "log$uri"),
        ("GATEWAY_ACCESS_LOG", "a\nb"),
        ("STATIC_DIR", "/srv/$uri"),
        ("STATIC_CSP", 'default-src "self"'),
        ("STATIC_CSP", "default-src 'self'\nX-Evil: 1"),
        ("STATIC_CSP", "$uri"),
        ("STATIC_CSP", "default-src 'self'; \\"),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{variable} must be "):
        GatewaySettings.from_environ({variable: value})


@pytest.mark.parametrize("one", ["GATEWAY_TLS_CERTIFICATE", "GATEWAY_TLS_CERTIFICATE_KEY"])
def test_a_certificate_requires_its_key_and_the_key_its_certificate(one: str) -> None:
    with pytest.raises(ValueError, match="GATEWAY_TLS_CERTIFICATE"):
        GatewaySettings.from_environ({one: "/run/tls.pem"})


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GatewaySettings().port = 1  # type: ignore[misc]


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def test_nothing_is_traced_without_a_collector() -> None:
    assert GatewaySettings.from_environ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}).traced_share == 0


def test_everything_is_traced_with_a_collector_by_default() -> None:
    assert GatewaySettings.from_environ(COLLECTOR).traced_share == 1


@pytest.mark.parametrize(("text", "share"), [("0.25", 0.25), ("1", 1.0), ("0", 0.0), (".5", 0.5), ("0.0", 0.0)])
def test_the_traced_share_is_read(text: str, share: float) -> None:
    assert GatewaySettings.from_environ({**COLLECTOR, "OTEL_TRACES_SAMPLER_ARG": text}).traced_share == share


@pytest.mark.parametrize("text", ["2", "-1", "1%", "nan", "1e-2", "0.00001", "half", "1.", "0.5; include x"])
def test_an_invalid_traced_share_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="OTEL_TRACES_SAMPLER_ARG"):
        GatewaySettings.from_environ({**COLLECTOR, "OTEL_TRACES_SAMPLER_ARG": text})
