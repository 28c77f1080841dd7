"""What tests of the gateway, and of what stands behind it, are built from."""

from gateway_config.testing.client import Answer, exchange
from gateway_config.testing.issuer import Issuer, base64url
from gateway_config.testing.running import RunningGateway

__all__ = ["Answer", "Issuer", "RunningGateway", "base64url", "exchange"]
