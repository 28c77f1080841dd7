"""Figures made of metrics: replicas and their states, rates, latencies, calls between services."""
