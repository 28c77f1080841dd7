"""The platform: services, gateway and stores as one whole that starts and stops."""
