"""Two services of which one calls the other: built from the kit, and bare ones beside Dapr's sidecars."""
