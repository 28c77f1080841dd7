"""Commands for operators. They run outside the services.

make_keys     write the missing keys between services
make_secrets  write the missing secrets of services
rotation      replace keys on a running platform, without losing a call
secret_sync   run one of these on the Secrets of a Kubernetes cluster
"""
