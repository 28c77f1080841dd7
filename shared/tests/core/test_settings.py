"""Settings: secrets come from files or the environment, never from a default."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from servicekit.core.settings import ServiceSettings

REQUIRED = {
    "SERVICE_NAME": "parcels",
    "VALKEY_URL": "redis://:Ub7k2-long-random@127.0.0.1:6379/0",
    "SERVICE_KEYS_DIR": "/keys",
    "FINGERPRINT_SECRET": "0123456789abcdef0123456789abcdef",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_secret_is_read_from_the_file_that_is_named_for_it(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "fingerprint"
    secret.write_text("from-the-file-0123456789abcdef0123\n")
    environment.delenv("FINGERPRINT_SECRET")
    environment.setenv("FINGERPRINT_SECRET_FILE", str(secret))

    assert ServiceSettings().fingerprint_secret.get_secret_value() == "from-the-file-0123456789abcdef0123"


def test_a_secret_file_that_is_missing_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VALKEY_URL_FILE", "/nowhere/valkey")

    with pytest.raises(ValueError, match=r"VALKEY_URL_FILE: .*/nowhere/valkey"):
        ServiceSettings()


@pytest.mark.parametrize("name", ["VALKEY_URL", "FINGERPRINT_SECRET", "SERVICE_KEYS_DIR"])
def test_nothing_secret_has_a_default(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)

    with pytest.raises(ValidationError, match=name.lower()):
        ServiceSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VALKEY_URL", "redis://:change-me@valkey:6379/0"),
        ("VALKEY_URL", "redis://user:password@valkey:6379/0"),
        ("FINGERPRINT_SECRET", "change-me-change-me-change-me-change-me"),
    ],
)
def test_production_refuses_a_placeholder(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)

    with pytest.raises(ValidationError, match=f"{name} still holds a placeholder"):
        ServiceSettings()

    environment.setenv("ENVIRONMENT", "development")
    assert ServiceSettings().service_name == "parcels"


def test_a_printed_setting_shows_no_secret(environment: pytest.MonkeyPatch) -> None:
    assert "Ub7k2" not in repr(ServiceSettings())
    assert "0123456789abcdef" not in repr(ServiceSettings())


def test_networks_and_peers_are_parsed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GATEWAY_NETWORKS", "10.0.0.0/8, ::1/128, gateway")
    environment.setenv("PEER_URLS", '{"user": ["http://127.0.0.1:8002"]}')

    settings = ServiceSettings()
    assert [str(network) for network in settings.gateway_networks] == ["10.0.0.0/8", "::1/128", "gateway"]
    assert settings.peer_urls == {"user": ["http://127.0.0.1:8002"]}


def test_a_mistaken_network_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GATEWAY_NETWORKS", "10.0.0.0/8, 10.0.0.1/8")

    with pytest.raises(ValidationError, match=r"(?s)gateway_networks.*10\.0\.0\.1/8.*or a DNS name is expected"):
        ServiceSettings()


def test_settings_cannot_be_changed_afterwards(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings().service_name = "other"


def test_the_error_of_a_secret_that_is_too_short_does_not_tell_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FINGERPRINT_SECRET", "too-short")

    with pytest.raises(ValidationError) as refused:
        ServiceSettings()
    assert "fingerprint_secret" in str(refused.value)
    assert "too-short" not in str(refused.value)
