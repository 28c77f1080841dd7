"""The command line: `python -m local_platform COMMAND`, which the Makefile's targets call."""
