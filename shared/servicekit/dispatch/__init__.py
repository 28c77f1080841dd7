"""The parts that `servicekit.dispatcher` is made of. Services import from there."""
