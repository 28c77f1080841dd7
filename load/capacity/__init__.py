"""`make load`: k6, Locust and a cheap client of our own against a running platform, with the CPU that each takes."""
