"""Two services, one of them calling the other: built from the kit, and bare ones beside Dapr's sidecars."""
