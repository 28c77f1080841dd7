"""PostgreSQL, MongoDB and Valkey: alone for tests, or below the whole platform."""

from local_platform.stores.store_set import StoreSet, running_stores

__all__ = ["StoreSet", "running_stores"]
