"""What tests of the gateway, and of what stands behind it, are built from."""

from gateway.testing.answers import Answer, exchange
from gateway.testing.issuer import Issuer, base64url
from gateway.testing.running import RunningGateway

__all__ = ["Answer", "Issuer", "RunningGateway", "base64url", "exchange"]
