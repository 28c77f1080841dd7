"""Standard library only: what the gateway's image and a host without an environment need as well.

catalog      the services of deploy/services.toml
valkey_acl   the users of a shared Valkey server
atomic_file  files that are replaced whole
file_lock    locks between processes
"""
