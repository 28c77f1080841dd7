"""Commands for operators. They run outside the services.

make_keys  write the missing keys between services
rotation   replace keys on a running platform, without losing a call
"""
