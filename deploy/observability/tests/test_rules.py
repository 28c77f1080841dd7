"""Each alert fires when it should, and none fires on a platform that works: promtool decides."""

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .rules import ALERTS, FILES, tool

pytestmark = pytest.mark.servers

PROMTOOL = tool("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not built: make observability-tools")
STEP_SECONDS = 60
Series = Mapping[str, str]

NOTES, USER = 'service="notes",instance="notes-1"', 'service="user",instance="user-1"'
CALLS = 'service_dispatcher_call_duration_seconds_count{service="notes",instance="notes-1",peer="assets"'
EDGE = 'gateway_http_requests_total{instance="gateway-1",route="/a",method="GET"'


def constant(value: float) -> str:
    """Return values of promtool that stay the same for more than an hour."""
    return f"{value}x80"


def growing(per_second: float, start: float = 0) -> str:
    """Return values of a counter."""
    return f"{start}+{per_second * STEP_SECONDS}x80"


def latencies(name: str, labels: str, *, fast: float, slow: float) -> Series:
    """Return a histogram with so many requests a second below 10 ms, and so many that take 2 s."""
    return {
        f'{name}_bucket{{{labels},le="0.01"}}': growing(fast),
        f'{name}_bucket{{{labels},le="1.0"}}': growing(fast),
        f'{name}_bucket{{{labels},le="2.5"}}': growing(fast + slow),
        f'{name}_bucket{{{labels},le="+Inf"}}': growing(fast + slow),
        f"{name}_count{{{labels}}}": growing(fast + slow),
    }


REQUESTS = f'{NOTES},method="GET",route="/a",status="200"'
QUIET: Series = {
    f'up{{job="services",{NOTES}}}': constant(1),
    f'up{{job="services",{USER}}}': constant(1),
    'up{job="gateway",instance="gateway-1"}': constant(1),
    **latencies("service_http_request_duration_seconds", REQUESTS, fast=10, slow=0.1),
    # One request in a thousand fails.
    f'service_http_request_duration_seconds_count{{{NOTES},method="GET",route="/a",status="503"}}': growing(0.01),
    f'service_errors_total{{{NOTES},route="/a"}}': growing(0.01),
    f"service_http_requests_in_progress{{{NOTES}}}": constant(5),
    f"service_password_hashes_waiting{{{USER}}}": constant(2),
    f'{EDGE},status="200",upstream="notes_v1",cache="none",limited="no"}}': growing(10),
    f'{EDGE},status="200",upstream="cache",cache="HIT",limited="no"}}': growing(1),
    f'{EDGE},status="401",upstream="edge",cache="none",limited="no"}}': growing(0.1),
    f'{EDGE},status="429",upstream="edge",cache="none",limited="yes"}}': growing(0.1),
    f'{EDGE},status="502",upstream="notes_v1",cache="none",limited="no"}}': growing(0.01),
    **latencies("gateway_http_request_duration_seconds", 'instance="gateway-1",route="/a"', fast=10, slow=0.1),
    'gateway_connections{instance="gateway-1",state="active"}': constant(40),
    'gateway_upstream_weight{instance="gateway-1",service="notes",version="v1"}': constant(100),
    f'{CALLS},outcome="ok"}}': growing(2),
    f'{CALLS},outcome="rejected"}}': growing(1),
    f'{CALLS},outcome="timeout"}}': growing(0.01),
    f'service_dispatcher_breaker_state{{{NOTES},peer="assets"}}': constant(0),
    f'service_dispatcher_retry_budget_exhausted_total{{{NOTES},peer="assets"}}': constant(3),
    f'service_sealed_requests_refused_total{{{NOTES},reason="stale"}}': growing(0.01),
    f'service_sealed_requests_refused_total{{{NOTES},reason="unknown key id"}}': constant(2),
    f"service_key_reload_failures_total{{{NOTES}}}": constant(1),
    f"service_signing_key_reload_failures_total{{{USER}}}": constant(1),
    f"service_replay_guard_degraded{{{NOTES}}}": constant(0),
    f"service_ended_sessions_unpublished{{{USER}}}": constant(0),
    f"service_ended_sessions_unheard{{{NOTES}}}": constant(0),
    f"service_refresh_token_reuses_total{{{USER}}}": growing(0.001),
    f"service_duplicate_registrations_total{{{USER}}}": growing(0.1),
    f'service_outbox_oldest_seconds{{{NOTES},destination="analytics"}}': constant(2),
    f'service_outbox_backlog{{{NOTES},destination="analytics"}}': constant(20),
    f'service_outbox_parked{{{NOTES},destination="analytics"}}': constant(0),
    f'service_store_up{{{NOTES},store="mongo"}}': constant(1),
    f"service_valkey_away{{{NOTES}}}": constant(0),
    f"service_quota_unchecked_total{{{NOTES}}}": constant(7),
    f"service_failure_limits_local_total{{{USER}}}": constant(7),
    f"service_cache_lost_invalidations_total{{{USER}}}": constant(7),
    f"service_disk_used_ratio{{{NOTES}}}": constant(0.6),
    f'service_idempotency_conflicts_total{{{NOTES},route="/a",reason="other_request"}}': growing(0.1),
    f'service_idempotency_replays_total{{{NOTES},route="/a"}}': growing(0.1),
    f"service_events_unlabelled_total{{{NOTES}}}": constant(7),
    f'service_tracing_spans_dropped_total{{{NOTES},reason="queue_full"}}': constant(7),
    f'service_telemetry_dropped_total{{{NOTES},signal="logs",reason="queue_full"}}': constant(7),
    'gateway_telemetry_dropped_total{instance="gateway-1",signal="traces",reason="unreachable"}': constant(7),
}

# What differs from a quiet platform when an alert fires, and which others fire with it.
FAULTS: Mapping[str, Series] = {
    "ServiceUnavailable": {f'up{{job="services",{NOTES}}}': "1x10 0x20"},
    "ReplicaDown": {f'up{{job="services",{NOTES.replace("-1", "-2")}}}': constant(0)},
    "ServiceErrors": {
        f'service_http_request_duration_seconds_count{{{NOTES},method="GET",route="/a",status="503"}}': growing(0.5)
    },
    "RouteErrors": {f'service_errors_total{{{NOTES},route="/a"}}': growing(0.2)},
    "ServiceSlow": latencies("service_http_request_duration_seconds", REQUESTS, fast=10, slow=1),
    "ServiceBusy": {f"service_http_requests_in_progress{{{NOTES}}}": constant(101)},
    "PasswordHashesWait": {f"service_password_hashes_waiting{{{USER}}}": constant(21)},
    "GatewayDown": {'up{job="gateway",instance="gateway-1"}': "1x5 0x50"},
    "GatewayErrors": {f'{EDGE},status="500",upstream="user_v1",cache="none",limited="no"}}': growing(0.5)},
    "GatewaySlow": latencies(
        "gateway_http_request_duration_seconds", 'instance="gateway-1",route="/a"', fast=10, slow=1
    ),
    "UpstreamFails": {f'{EDGE},status="504",upstream="notes_v1",cache="none",limited="no"}}': growing(0.15)},
    "LimitsHit": {f'{EDGE},status="429",upstream="edge",cache="none",limited="yes"}}': growing(1)},
    "TokensRefused": {f'{EDGE},status="401",upstream="edge",cache="none",limited="no"}}': growing(5)},
    "GatewayConnectionsHigh": {'gateway_connections{instance="gateway-1",state="active"}': constant(3001)},
    "ReleaseUnfinished": {'gateway_upstream_weight{instance="gateway-1",service="notes",version="v2"}': constant(0)},
    "PeerCallsFail": {f'{CALLS},outcome="timeout"}}': growing(0.5)},
    "BreakerOpen": {f'service_dispatcher_breaker_state{{{NOTES},peer="assets"}}': constant(2)},
    "RetryBudgetExhausted": {
        f'service_dispatcher_retry_budget_exhausted_total{{{NOTES},peer="assets"}}': growing(0.05)
    },
    "SealedRequestsRefused": {f'service_sealed_requests_refused_total{{{NOTES},reason="stale"}}': growing(0.2)},
    "UnknownKey": {f'service_sealed_requests_refused_total{{{NOTES},reason="unknown key id"}}': growing(0.01)},
    "KeysNotLoaded": {f"service_signing_key_reload_failures_total{{{USER}}}": growing(0.01)},
    "ReplayGuardDegraded": {f"service_replay_guard_degraded{{{NOTES}}}": constant(1)},
    "EndedSessionsUnpublished": {f"service_ended_sessions_unpublished{{{USER}}}": constant(1)},
    "EndedSessionsUnheard": {f"service_ended_sessions_unheard{{{NOTES}}}": constant(1)},
    "RefreshTokensReused": {f"service_refresh_token_reuses_total{{{USER}}}": growing(0.01)},
    "DuplicateRegistrations": {f"service_duplicate_registrations_total{{{USER}}}": growing(2)},
    "OutboxDelayed": {f'service_outbox_oldest_seconds{{{NOTES},destination="analytics"}}': constant(301)},
    "OutboxBacklog": {f'service_outbox_backlog{{{NOTES},destination="analytics"}}': constant(1001)},
    "DeadLetters": {f'service_outbox_parked{{{NOTES},destination="analytics"}}': constant(1)},
    "StoreDown": {f'service_store_up{{{NOTES},store="mongo"}}': constant(0)},
    "ValkeyUnavailable": {f"service_valkey_away{{{NOTES}}}": constant(2)},
    "LimitsUnchecked": {f"service_failure_limits_local_total{{{USER}}}": growing(0.1)},
    "CacheStale": {f"service_cache_lost_invalidations_total{{{USER}}}": growing(0.01)},
    "DiskAlmostFull": {f"service_disk_used_ratio{{{NOTES}}}": constant(0.86)},
    "DiskFull": {f"service_disk_used_ratio{{{NOTES}}}": constant(0.96)},
    "IdempotencyConflicts": {
        f'service_idempotency_conflicts_total{{{NOTES},route="/a",reason="other_request"}}': growing(2)
    },
    "RequestsRepeated": {f'service_idempotency_replays_total{{{NOTES},route="/a"}}': growing(6)},
    "EventsUnlabelled": {f"service_events_unlabelled_total{{{NOTES}}}": growing(0.1)},
    "SpansDropped": {f'service_tracing_spans_dropped_total{{{NOTES},reason="queue_full"}}': growing(0.1)},
    "TelemetryDropped": {
        'gateway_telemetry_dropped_total{instance="gateway-1",signal="traces",reason="unreachable"}': growing(0.1)
    },
}
# The other alerts of the same fault.
WITH = {
    "ServiceUnavailable": {"ReplicaDown"},
    "DiskFull": {"DiskAlmostFull"},
}
# In minutes, where it is not 20. An alert about what has gone ends when nothing remembers it.
FIRED_AT = {"ServiceUnavailable": 14, "ReleaseUnfinished": 65}


def minutes(duration: str) -> float:
    """Return the minutes of a rule's `for`."""
    return int(duration[:-1]) * {"m": 1, "h": 60}[duration[-1]]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Which alerts a platform with these series fires after so many minutes."""

    name: str
    series: Series
    fired: Mapping[float, set[str]]

    def test(self) -> Mapping[str, Any]:
        """Return it as promtool reads it."""
        return {
            "name": self.name,
            "interval": f"{STEP_SECONDS}s",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "promql_expr_test": [
                {
                    "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{round(after * 60)}s",
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
                }
                for after, names in self.fired.items()
            ],
        }


def check(folder: Path, expectations: Iterable[Expectation]) -> None:
    """Let promtool compare them with the rules."""
    path = folder / "test.yml"
    document = {
        "rule_files": [str(path) for path in FILES],
        "evaluation_interval": f"{STEP_SECONDS}s",
        "tests": [expectation.test() for expectation in expectations],
    }
    path.write_text(yaml.safe_dump(document))
    assert PROMTOOL is not None
    result = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_fault_that_fires_it() -> None:
    assert set(FAULTS) == set(ALERTS)


@needs_promtool
def test_each_alert_fires_for_its_fault_and_no_other_does(tmp_path: Path) -> None:
    check(
        tmp_path,
        (
            Expectation(alert, {**QUIET, **fault}, {FIRED_AT.get(alert, 20): {alert, *WITH.get(alert, ())}})
            for alert, fault in FAULTS.items()
        ),
    )


@needs_promtool
def test_each_alert_waits_until_its_fault_has_lasted(tmp_path: Path) -> None:
    waiting = {alert: minutes(rule["for"]) for alert, rule in ALERTS.items() if "for" in rule}
    check(
        tmp_path,
        (Expectation(alert, {**QUIET, **FAULTS[alert]}, {lasting - 1: set()}) for alert, lasting in waiting.items()),
    )


@needs_promtool
def test_a_quiet_quarter_of_an_hour_fires_nothing(tmp_path: Path) -> None:
    check(tmp_path, [Expectation("quiet", QUIET, {minute: set() for minute in range(1, 16)})])
