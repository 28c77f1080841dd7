"""How a service runs under gunicorn. This module imports nothing: the health check loads fast.

worker            uvicorn with a shutdown that loses no request
write_coalescing  one write for the head and the body of a response
shared_imports    what a process imports before it forks
healthcheck       the health check of a container
"""
