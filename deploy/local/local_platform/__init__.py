"""Runs the platform on one machine without Docker: real stores, every service, the gateway.

`python -m local_platform` is `make run`. Tests use `running_stores` (stores.py) and `running_platform`
(launcher.py).
"""
