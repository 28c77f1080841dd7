"""Brings the platform up in containers, and releases services without a failed request.

It runs on an operator's host that has Python and docker: the standard library only.
"""
