"""The static files agree with each other."""

import re

from gateway_config.render import STATIC_FILES


def test_every_retryable_route_takes_part_in_releases() -> None:
    def locations(name: str, pattern: str) -> set[str]:
        text = (STATIC_FILES / "server" / name).read_text()
        return set(re.findall(pattern, text))

    retryable = locations("routes.conf", r"location /-/(\w+)/ \{[^}]*snippets/retry_(?:reads|keyed)\.conf")
    table = re.search(r"\(\?<retryable>([a-z_|]+)\)", (STATIC_FILES / "http" / "releases.conf").read_text())
    assert table is not None
    assert retryable == set(table[1].split("|"))
    for form in (r"location /-/canary_(\w+)/", r"location @canary_(\w+)", r"location @fallback_(\w+)"):
        assert locations("fallbacks.conf", form) == retryable
