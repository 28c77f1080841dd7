"""The gateway's container, which has the standard library and `opskit` only.

`nginx` starts and probes NGINX, `traffic` is the command that moves a release's traffic, and `installation` holds the
paths, names and settings of both.
"""
