"""Runs the platform on one machine without Docker: real stores, every service, the gateway.

`python -m local_platform run` is `make run`. Tests use `local_platform.stores.running_stores` and
`local_platform.platform.launcher.running_platform`.
"""
