"""The command line of `make run` and of the commands beside it."""
