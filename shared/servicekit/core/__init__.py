"""What every other package of the kit may import: errors, settings, and the request in progress.

errors           the exception tree of the services, rendered as problem documents
before_body      checks that a route makes before it reads its body
context          ids, deadline and caller of the request in progress
settings         the settings that all services share, read from the environment
circuit_breaker  stops calls to something that keeps failing
client_address   the address of the client behind the gateway
clock, tasks, dns, text
"""
