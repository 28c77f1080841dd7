"""The sender of generated requests, and checks of every response beyond its documentation. Loaded by schemathesis.

Environment: FUZZING_ROLE is nobody, user or admin. Accounts are registered at FUZZING_ACCOUNTS, the URL of a user
service, and promoted with the platform that runs on FUZZING_DATA_DIR.
"""

import os
import subprocess
import sys
from typing import Any
from uuid import uuid4

import httpx2
import schemathesis
from schemathesis import AuthContext, Case, CheckContext, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure

ROLE = os.environ["FUZZING_ROLE"]
AnyCase = Case[Any]
PASSWORD = "correct horse battery staple"
PROBLEM_MEMBERS = {"type": str, "title": str, "status": int, "detail": str, "instance": str, "request_id": str}
TRACES = (b"Traceback (most recent call last)", b'File "/', b"sqlalchemy", b"pymongo", b"asyncpg")
# Logout takes an access token, a refresh token, both or none.
OPEN_TO_ALL = {"POST /api/v1/users/logout"}


class Account:
    """An account with a role. It is replaced after generated requests have logged it out, demoted it or deleted it."""

    def __init__(self, role: str) -> None:
        self._role = role
        # Failures of generated logins are counted for another address.
        self._client = httpx2.Client(
            base_url=os.environ["FUZZING_ACCOUNTS"], headers={"X-Real-IP": "192.0.2.1"}, timeout=20
        )
        self._name = self._register()
        self._headers = [self._log_in()]
        self._in_doubt = False

    @property
    def header(self) -> str:
        return self._headers[-1]

    def current(self, header: str) -> str:
        """Replace an outdated header of this account: a request may be generated long before it is sent."""
        if header not in self._headers:
            return header
        if self._in_doubt and not self._is_accepted():
            self._headers.append(self._log_in() or self._log_in_as_new_account())
        self._in_doubt = False
        return self.header

    def note_refusal(self, header: str) -> None:
        """Note that a request with this header was refused."""
        self._in_doubt |= header == self.header

    def _is_accepted(self) -> bool:
        headers = {"Authorization": self.header}
        return self._client.get("/api/v1/users/profile", headers=headers).status_code == 200

    def _log_in_as_new_account(self) -> str:
        self._name = self._register()
        return self._log_in()

    def _log_in(self) -> str:
        body = {"username_or_email": self._name, "password": PASSWORD}
        response = self._client.post("/api/v1/users/login", json=body)
        return f"Bearer {response.json()['access_token']}" if response.status_code == 200 else ""

    def _register(self) -> str:
        name = f"f{uuid4().hex[:20]}"
        body = {"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
        self._client.post("/api/v1/users/register", json=body).raise_for_status()
        if self._role == "admin":
            data_dir = os.environ["FUZZING_DATA_DIR"]
            command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", data_dir, name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return name


if ROLE != "nobody":
    ACCOUNT = Account(ROLE)

    @schemathesis.auth(refresh_interval=None)
    class SignedIn:
        """Puts the account's token into every generated request."""

        def get(self, _case: AnyCase, _context: AuthContext) -> str:
            return ACCOUNT.header

        def set(self, case: AnyCase, data: str, _context: AuthContext) -> None:
            case.headers["Authorization"] = data

    @schemathesis.hook
    def before_call(_context: HookContext, case: AnyCase, _kwargs: dict[str, Any]) -> None:
        if given := case.headers.get("Authorization"):
            case.headers["Authorization"] = ACCOUNT.current(given)

    @schemathesis.hook
    def after_call(_context: HookContext, _case: AnyCase, response: Response) -> None:
        if response.status_code == 401:
            ACCOUNT.note_refusal(str(response.request.headers.get("Authorization", "")))


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, _case: AnyCase, _response: Response) -> bool:
    """Keep every failure but one: any text is a list of tags, so a "wrong" If-None-Match is ignored, not refused."""
    return not (isinstance(failure, AcceptedNegativeData) and "`If-None-Match` in header" in failure.message)


@schemathesis.check
def errors_are_problem_documents(_context: CheckContext, response: Response, _case: AnyCase) -> None:
    """Every error is a problem document (RFC 9457) with all required members, and no response shows code."""
    for trace in TRACES:
        assert trace not in response.content, f"the response shows {trace.decode()}"
    if response.status_code < 400:
        return
    assert response.headers.get("content-type") == ["application/problem+json"], "the error is no problem document"
    if response.request.method == "HEAD":
        return
    problem = response.json()
    for member, kind in PROBLEM_MEMBERS.items():
        assert isinstance(problem.get(member), kind), f"the problem's `{member}` is {problem.get(member)!r}"
    assert problem["status"] == response.status_code


@schemathesis.check
def protected_routes_refuse_strangers(_context: CheckContext, response: Response, case: AnyCase) -> None:
    """A plain request never reaches a route for sealed ones, and a request without a token no route for users."""
    if response.request.method != case.operation.method.upper():
        return
    document = case.operation.definition.raw
    if document.get("x-service-policy", {}).get("mode") == "sealed":
        assert response.status_code == 401, "a route for sealed requests accepts a plain one"
    if ROLE == "nobody" and document.get("security") and case.operation.label not in OPEN_TO_ALL:
        assert 400 <= response.status_code < 500, "a route for users accepts a request without a token"
