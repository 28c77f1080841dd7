"""The HTTP side of a service, on FastAPI.

application        build_app: middleware in the right order, error handlers, probes, documentation
middleware         the context, the metrics and the access line of a request; the last catch of errors
error_handlers     errors that FastAPI catches become problem documents
health             /health, /ready and /metrics
openapi            the error responses of each operation
pagination         keyset pages with opaque cursors
timestamps         dates and times in requests
body_limit         routes with a body: the order of their checks, and the limits on the body
json_body          bounded parsing of JSON; the base of all bodies
validation_errors  faults in a client's own paths, without a library's terms
entity_tags        If-Match and If-None-Match
docs, head         /docs without a CDN; HEAD for every GET
"""
