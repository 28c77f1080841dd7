"""What the gateway refuses by itself."""

import base64
import json

from local_platform.demo.accounts import USERS, decoded_part
from local_platform.demo.measures import refused_requests
from local_platform.demo.tour import Visit


def forge_a_token(visit: Visit) -> None:
    """Make oneself an administrator, under the signature of the genuine token."""
    header, body, signature = visit.token.split(".")
    claims = {**decoded_part(body), "roles": ["admin"]}
    forged_body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    visit.report.shown(forged=f"the own token, but with roles {', '.join(claims['roles'])}")

    before = refused_requests(visit.platform, "user", USERS)
    forged = {"Authorization": f"Bearer {header}.{forged_body}.{signature}"}
    answer = visit.client.get(USERS, headers=forged)
    visit.answered("GET /users with it is refused", answer, 401)
    visit.claim("with a problem document", answer.headers["content-type"] == "application/problem+json", answer.headers)
    seen = refused_requests(visit.platform, "user", USERS) - before
    visit.claim("by the gateway: no replica of the user service has seen it", seen == 0, f"{seen:g} refusals by it")
    genuine = visit.client.get(USERS, headers=visit.signed_in)
    visit.answered("with the genuine token, the service says that users may not do this", genuine, 403)
