"""The gateway in its container: how it starts, how it is probed, and how releases move traffic.

`python3 -m gateway_config.container` renders from the environment and becomes NGINX; `healthcheck` and `traffic` are
the commands beside it. Only the standard library is there.
"""
