"""As whom JumpCloud is asked: an administrator's API key, or a service account. No repr shows their secrets."""

import asyncio
import base64
import math
import time
from collections.abc import Awaitable, Callable, Mapping

from pydantic import SecretStr

from reconciler.http import Http
from reconciler.jumpcloud_replies import TokenReply, Unauthorized, UnexpectedReply, document, own_words, parsed

EARLY = 60.0
"""A token is renewed so many seconds before it ends, or after half its life where that is shorter."""
LIFE = 600.0
"""How many seconds a token is used that does not say when it ends."""

_JSON = {"Accept": "application/json", "Content-Type": "application/json"}


def key_headers(key: SecretStr, organization: str | None) -> Callable[[], Awaitable[Mapping[str, str]]]:
    """The headers of an administrator's API key; `x-org-id` is for administrators of several organisations only."""

    async def headers() -> Mapping[str, str]:
        return {"x-api-key": key.get_secret_value(), **_JSON, **_home(organization)}

    return headers


def login_headers(client_id: str, secret: SecretStr) -> dict[str, str]:
    """The headers of the request for a service account's token (RFC 6749 section 2.3.1)."""
    pair = f"{client_id}:{secret.get_secret_value()}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}", "Accept": "application/json"}


class ServiceAccount:
    """The headers of a service account: an access token, fetched when first needed and renewed before it ends.

    `oauth` asks the token endpoint with `login_headers`. `clock` counts seconds.
    """

    def __init__(self, oauth: Http, organization: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._oauth = oauth
        self._organization = organization
        self._clock = clock
        self._token = SecretStr("")
        self._until = -math.inf
        self._lock = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        """The headers of a request to the API. Raises Unauthorized, UnexpectedReply and HttpError."""
        async with self._lock:
            if self._clock() >= self._until:
                await self._renew()
        return {"Authorization": f"Bearer {self._token.get_secret_value()}", **_JSON, **_home(self._organization)}

    def forget(self) -> None:
        """Fetch another token before the next request: JumpCloud has ended this one early."""
        self._until = -math.inf

    async def _renew(self) -> None:
        form = {"grant_type": "client_credentials", "scope": "api"}
        reply = await self._oauth.request("POST", "/oauth2/token", form=form, repeatable=True)
        if reply.status in (400, 401, 403):
            words = own_words(reply)
            raise Unauthorized(
                f"JumpCloud gives the service account no token (HTTP {reply.status}{f': {words}' if words else ''})",
                "Check jumpcloud.client_id and the client secret, which expires: make a new one in the console, and "
                "restart the service after a change.",
                reply.status,
            )
        if reply.status != 200:
            raise UnexpectedReply(
                f"JumpCloud's token endpoint answered with HTTP {reply.status}",
                "Check jumpcloud.base_url (the region) and jumpcloud.oauth_url.",
                reply.status,
            )
        token = parsed(TokenReply, document(reply), "the access token")
        life = LIFE if token.expires_in is None else token.expires_in
        self._token = token.access_token
        self._until = self._clock() + max(life - EARLY, life / 2)


def _home(organization: str | None) -> dict[str, str]:
    return {"x-org-id": organization} if organization else {}
