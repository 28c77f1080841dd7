"""`helm test`: what a client does with each service, through the gateway, on an account of its own.

Arguments: the gateway's URL, and the services.
"""

import json
import secrets
import ssl
import sys
import time
import urllib.error
import urllib.request

GATEWAY, *SERVICES = sys.argv[1:]
BUSY = (429, 502, 503, 504)
# The certificate names the public host, and this client is inside.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


class Client:
    """A client that repeats a request to a busy or starting platform."""

    def __init__(self):
        self.token = ""

    def call(self, method, path, body=None, **headers):
        """Return the JSON or the bytes of the response."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(GATEWAY + path, data, sent, method=method)
                with urllib.request.urlopen(request, timeout=20, context=UNVERIFIED) as response:
                    content = response.read()
                    return json.loads(content) if content[:1] == b"{" else content
            except urllib.error.HTTPError as error:
                if error.code not in BUSY or time.monotonic() > deadline:
                    sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")
            except OSError as error:
                # A new pod may have no DNS and no route yet, and a new name may not be known.
                if time.monotonic() > deadline:
                    sys.exit(f"{method} {path}: {error}")
            time.sleep(1)


def expect(claim, true):
    """Print the claim, or end the test."""
    print(f"{'ok' if true else 'FAILED'}: {claim}", flush=True)
    if not true:
        sys.exit(1)


client, stranger = Client(), Client()
name, password = f"check-{secrets.token_hex(6)}", secrets.token_urlsafe(24)

up = stranger.call("GET", "/lb-health")["services"]
expect(f"the gateway reaches {', '.join(SERVICES)}", up == dict.fromkeys(SERVICES, "up"))
if "user" in SERVICES:
    client.call(
        "POST", "/api/v1/users/register", {"username": name, "email": f"{name}@example.com", "password": password}
    )
    client.token = client.call("POST", "/api/v1/users/login", {"username_or_email": name, "password": password})[
        "access_token"
    ]
    expect("an account was made and is signed in", client.call("GET", "/api/v1/users/profile")["username"] == name)
if "analytics" in SERVICES:
    taken = client.call("POST", "/api/v1/analytics/events", {"type": "cluster.checked"})
    expect("an event was taken", taken["accepted"] == 1)
    expect("a sealed call counts the accounts", client.call("GET", "/api/v1/analytics/stats")["user_count"] > 0)
if "notes" in SERVICES:
    note = client.call("POST", "/api/v1/notes", {"title": "Check", "body": name})
    published = client.call("POST", f"/api/v1/notes/{note['id']}/publish")
    expect("a stranger reads a public note", stranger.call("GET", published["url"])["body"] == name)
if "assets" in SERVICES:
    content = f"{name}\n".encode() * 1000
    file = client.call("POST", "/api/v1/assets", content, Content_Type="text/plain", X_Filename="check.txt")
    expect("a file comes back as it was", client.call("GET", f"/api/v1/assets/{file['id']}/content") == content)
if "user" in SERVICES:
    client.call("DELETE", "/api/v1/users/profile")
    expect("the account was deleted", True)
