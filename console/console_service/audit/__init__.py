"""The audit trail: who did what to what, and when. The user service keeps it, so it outlives the console."""
