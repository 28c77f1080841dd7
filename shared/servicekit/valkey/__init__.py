"""Valkey, which may be unavailable at any time.

client      the connection pool, and calls behind a circuit breaker
rate_limit  token buckets: one rate per subject over all replicas
"""
