"""What the gateway's tests are built from: a raw HTTP client, running gateways, and their backends."""
