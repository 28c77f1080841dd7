"""Replaces keys while the platform runs, without losing a call.

    journal       what a rotation set out to do, to finish an interrupted one, and the lock against a second
    fleet         where the replicas are
    workers       what every worker of every replica says about its keys, and waiting until all agree
    pairs         the files of one pair of services, and which phase they show
    service_keys  the keys between services: add, promote, retire
    command       `python -m servicekit.ops.rotation`

The user service rotates the keys of access tokens with the first three of them.
"""
