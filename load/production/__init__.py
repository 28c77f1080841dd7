"""What `load/evidence.py` is made of: load that repeats nothing, scenarios, and what must hold in each of them."""
