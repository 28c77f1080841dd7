"""The platform's peers: other ways to do the same work, obtained, started and measured by `bench_peers.py`."""
