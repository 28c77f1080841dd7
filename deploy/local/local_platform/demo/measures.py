"""What the services themselves have counted."""

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from local_platform.demo.platform import RunningPlatform

REQUESTS = "service_http_request_duration_seconds"


def refused_requests(platform: RunningPlatform, service: str, route: str) -> float:
    """Return how many requests to a route all replicas of a service have answered with 401."""
    return sum(
        sample.value
        for url in platform.urls(service)
        for family in text_string_to_metric_families(httpx2.get(f"{url}/metrics").raise_for_status().text)
        for sample in family.samples
        if sample.name == f"{REQUESTS}_count" and (sample.labels["route"], sample.labels["status"]) == (route, "401")
    )
