"""Rotation of keys on a running platform, without losing a call.

    journal       the plan of a rotation, so that an interrupted one can be finished, and the lock against a second
    fleet         where the replicas are
    workers       the keys that every worker of every replica reports, and the wait until all are as needed
    pairs         the key files of one pair of services, and their phase
    service_keys  the keys between services: add, promote, retire
    command       `python -m servicekit.ops.rotation`

The user service rotates the keys of access tokens with the first three modules.
"""
