"""Notes and files."""

import hashlib
import secrets

import httpx2

from local_platform.demo.tour import Visit

NOTES = "/api/v1/notes"
ASSETS = "/api/v1/assets"


def publish_a_note(visit: Visit) -> None:
    """Write a note, change it, show it to everybody."""
    text = f"Written on a tour, {secrets.token_hex(8)}."
    note = {"title": "A note from the tour", "body": text, "tags": ["demo"]}
    created = visit.client.post(NOTES, headers=visit.signed_in, json=note)
    visit.answered("POST /notes creates a note", created, 201)
    path, version = created.headers["Location"], created.headers["ETag"]
    visit.answered("strangers are not told that it exists", _as_stranger(visit, path), 401)

    edit = {**visit.signed_in, "If-Match": version}
    visit.answered("its first version can be changed", visit.client.patch(path, headers=edit, json={"tags": []}), 200)
    stale = visit.client.patch(path, headers=edit, json={"title": "Too late"})
    visit.answered("once: a change of a version that is gone is refused", stale, 412)

    published = visit.client.post(f"{path}/publish", headers=visit.signed_in)
    address = visit.answered("POST /notes/{id}/publish makes it public", published, 200).json()["url"]
    visit.report.shown(public_page=str(visit.client.base_url.join(address)))
    page = visit.answered("everybody can read it there", _as_stranger(visit, address), 200)
    visit.claim("as it was written", page.json()["body"] == text, page.text)
    # A copy is good for two seconds; on a busy machine one of the next requests may come later.
    copies = (_as_stranger(visit, address).headers.get("x-cache") for _ in range(5))
    visit.claim("the gateway answers the next one from its cache", "HIT" in copies)


def share_a_file(visit: Visit) -> None:
    """Upload a small file and fetch it by a link that expires."""
    content = f"A small file, {secrets.token_hex(8)}.\n".encode() * 40
    headers = {**visit.signed_in, "Content-Type": "text/plain", "X-Filename": "tour.txt"}
    stored = visit.client.post(ASSETS, headers=headers, content=content)
    asset = visit.answered("POST /assets stores a file", stored, 201).json()
    visit.claim(
        "and returns the digest of what it stored", asset["sha256"] == hashlib.sha256(content).hexdigest(), asset
    )
    path = f"{ASSETS}/{asset['id']}"
    visit.answered("without a token it cannot be read", _as_stranger(visit, f"{path}/content"), 401)

    link = visit.client.post(f"{path}/link", headers=visit.signed_in)
    link_body = visit.answered("POST /assets/{id}/link returns a signed link", link, 200).json()
    visit.report.shown(link=visit.client.base_url.join(link_body["url"]), until=link_body["expires_at"])
    fetched = visit.answered("with the link, everybody can", _as_stranger(visit, link_body["url"]), 200)
    visit.claim("byte for byte", fetched.content == content, f"{len(fetched.content)} bytes")
    part = _as_stranger(visit, link_body["url"], Range="bytes=2-6")
    visit.claim("or a part of it", (part.status_code, part.content) == (206, content[2:7]), part.status_code)
    address, signature = link_body["url"].split("signature=")
    forged = _as_stranger(visit, f"{address}signature={'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    visit.claim("but not with a forged link", 400 <= forged.status_code < 500, forged.status_code)


def _as_stranger(visit: Visit, url: str, **headers: str) -> httpx2.Response:
    return visit.client.get(url, headers=headers)
