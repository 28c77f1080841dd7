"""The audit trail: what operators did by the console."""
