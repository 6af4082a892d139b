"""Who may ask the simulated JumpCloud: API keys, service accounts and the rate limit."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.jumpcloud_directory import Directory, Organization
from reconciler.simulator.jumpcloud_graph import is_object_id
from reconciler.simulator.jumpcloud_query import Refused
from reconciler.simulator.service import Request, Response

TOKEN_LIFETIME = 3600
"""Seconds that a service account's access token lasts."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key or a service account; `organization` is None for an administrator of several."""

    organization: str | None
    client_secret: str | None = None


class Access(Directory):
    """The directory together with those who may read it."""

    def __init__(self, assumptions: Assumptions, clock: Callable[[], float]) -> None:
        super().__init__(assumptions, clock)
        self._bucket = (0.0, float("-inf"))
        self.restart(0)

    def restart(self, issued: int) -> None:
        """Forget everything; `issued` object ids count as given."""
        self.organizations.clear()
        self.issued = issued
        self.api_keys: dict[str, Credential] = {}
        self.service_accounts: dict[str, Credential] = {}
        self._denied: set[str] = set()
        self._tokens: dict[str, tuple[str, float]] = {}

    def add_api_key(
        self, key: str | None = None, *, organization: str | None = None, multi_tenant: bool = False
    ) -> str:
        """An API key for one organisation (None: the first), or for all, which then needs `x-org-id`."""
        with self.lock:
            home = None if multi_tenant else self.organization(organization).id
            key = key or f"jca_{self.new_id()}{self.new_id()}"
            self.api_keys[key] = Credential(home)
            return key

    def revoke_api_key(self, key: str) -> None:
        """Make an API key invalid."""
        with self.lock:
            del self.api_keys[key]

    def add_service_account(self, *, organization: str | None = None) -> dict[str, str]:
        """A service account of an organisation (None: the first); returns `client_id` and `client_secret`."""
        with self.lock:
            home = self.organization(organization).id
            client, secret = self.new_id(), self.new_id()
            self.service_accounts[client] = Credential(home, secret)
            return {"client_id": client, "client_secret": secret}

    def revoke_service_account(self, client_id: str) -> None:
        """Make a service account and its tokens invalid, as when its secret expires."""
        with self.lock:
            del self.service_accounts[client_id]

    def expire_tokens(self) -> None:
        """Make all access tokens invalid now; their accounts can get new ones."""
        with self.lock:
            self._tokens.clear()

    def deny(self, credential: str) -> None:
        """Take the role away from an API key or client id: every read is answered 403 until `allow`."""
        with self.lock:
            self._denied.add(credential)

    def allow(self, credential: str) -> None:
        """Give the role back."""
        with self.lock:
            self._denied.discard(credential)

    def token(self, request: Request) -> Response:
        """`POST /oauth2/token`: the client credentials grant (RFC 6749 section 4.4)."""
        if request.method != "POST":
            return Response.of_json(405, {"error": "invalid_request"}, {"allow": "POST"})
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return Response.of_json(400, {"error": "invalid_request"})
        client, secret = _basic(request.headers.get("authorization", ""))
        account = self.service_accounts.get(client)
        if account is None or account.client_secret != secret:
            return Response.of_json(401, {"error": "invalid_client"}, {"www-authenticate": "Basic"})
        form = parse_qs(request.body.decode("latin-1"), keep_blank_values=True)
        if form.get("grant_type") != ["client_credentials"]:
            return Response.of_json(400, {"error": "unsupported_grant_type"})
        if form.get("scope") != ["api"]:
            return Response.of_json(400, {"error": "invalid_scope"})
        token = f"token-{self.new_id()}"
        self._tokens[token] = (client, self.clock() + TOKEN_LIFETIME)
        reply = {"access_token": token, "token_type": "bearer", "expires_in": TOKEN_LIFETIME, "scope": "api"}
        return Response.of_json(200, reply, {"cache-control": "no-store"})

    def visible(self, request: Request, needs_organization: bool) -> list[Organization]:
        """The organisations that a request may read; exactly one where the route needs that, else refused."""
        name, credential = self._credential(request)
        if name in self._denied:
            raise Refused(403, "Forbidden")
        wanted = request.headers.get("x-org-id")
        if wanted is not None:
            return [self._chosen(wanted, credential)]
        is_account = credential.client_secret is not None
        if needs_organization and (
            credential.organization is None or (is_account and self.assumptions.account_needs_organization)
        ):
            raise Refused(401, "Unauthorized: no organization selected")
        if credential.organization is None:
            return list(self.organizations.values())
        return [self.organizations[credential.organization]]

    def _chosen(self, wanted: str, credential: Credential) -> Organization:
        if not is_object_id(wanted):
            raise Refused(400, "Bad Request: malformed x-org-id")
        if wanted not in self.organizations or credential.organization not in (None, wanted):
            raise Refused(404, "Not Found")
        return self.organizations[wanted]

    def _credential(self, request: Request) -> tuple[str, Credential]:
        key = request.headers.get("x-api-key")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if key is not None and scheme:
            raise Refused(400, "Bad Request: both x-api-key and Authorization were sent")
        if key in self.api_keys:
            return key, self.api_keys[key]
        if key is None and scheme.lower() == "bearer":
            client, end = self._tokens.get(token, ("", 0.0))
            if client in self.service_accounts and self.clock() < end:
                return client, self.service_accounts[client]
            raise Refused(401, "Unauthorized: invalid access token", "Unauthorized")
        raise Refused(401, "Unauthorized: api key user not found", "Unauthorized")

    def throttled(self) -> Response | None:
        """429 if the rate limit is exceeded by this request."""
        rate = self.assumptions.requests_per_second
        if rate is None:
            return None
        level, then = self._bucket
        now = self.clock()
        level = min(max(1.0, rate), level + (now - then) * rate)
        self._bucket = (level - 1 if level >= 1 else level, now)
        if level >= 1:
            return None
        wait = self.assumptions.retry_after
        headers = {} if wait is None else {"retry-after": str(wait)}
        return Response.of_json(429, {"message": "Too Many Requests"}, headers)


def _basic(header: str) -> tuple[str, str]:
    """User and password of HTTP basic authentication (RFC 7617); empty where there is none."""
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    client, _, secret = text.partition(":")
    return client, secret
