"""`make remove-service NAME=notes`: removes a service, and what the rest of the repository has of it.

`lists` takes it from the files that list all services, `code` from Python code; `removal` plans and writes all of it.
"""
