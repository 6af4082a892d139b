"""From the settings to clients that are ready: credentials and pace."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from reconciler import jumpcloud as jc
from reconciler import keeper as scim
from reconciler.clocks import ServiceTime
from reconciler.config import Settings
from reconciler.hooks import read_inventory
from reconciler.http import Counters, Http, Pace
from reconciler.reading import Services
from reconciler.urls import service_url

JUMPCLOUD_PACE = (5.0, 10.0)
"""Requests a second at the start and at most. JumpCloud publishes no numbers; this is gentle."""
_Headers = Callable[[], Awaitable[Mapping[str, str]]]
KEEPER_PACE = (10.0, 50.0)


@asynccontextmanager
async def services(settings: Settings) -> AsyncIterator[Services]:
    """Clients of both services, closed at the end. Raises SecretError for a secret that can't be had."""
    async with AsyncExitStack() as stack:
        section = settings.jumpcloud
        traffic = Counters()
        credentials, forget_token = await _credentials(stack, settings, traffic)
        console = await stack.enter_async_context(
            Http(
                service="JumpCloud",
                base_url=section.base_url,
                headers=credentials,
                pace=Pace(*JUMPCLOUD_PACE),
                in_flight=section.in_flight,
                reads_only=True,
                counters=traffic,
            )
        )
        endpoint = await stack.enter_async_context(
            Http(
                service="Keeper",
                base_url=settings.keeper.scim_url,
                headers=scim.headers(settings.keeper.token.resolve().get_secret_value()),
                pace=Pace(*KEEPER_PACE),
                in_flight=settings.keeper.in_flight,
            )
        )
        jumpcloud = jc.JumpCloud(console, section.application, forget_token, section.organization)
        keeper = scim.Keeper(endpoint)
        yield Services(
            jumpcloud,
            keeper,
            service_url(settings.keeper.scim_url),
            (lambda now: read_inventory(settings, now)) if settings.keeper.inventory_command else None,
            (("jumpcloud", traffic), ("keeper", endpoint.counters)),
            ServiceTime(console.clock_offset, jumpcloud.still_there),
            ServiceTime(endpoint.clock_offset, keeper.probe),
        )


async def _credentials(
    stack: AsyncExitStack, settings: Settings, traffic: Counters
) -> tuple[_Headers, Callable[[], None] | None]:
    """The headers for JumpCloud: an administrator's key, or a service account's token and how to have it renewed."""
    section = settings.jumpcloud
    if section.client_id is None or section.client_secret is None:
        assert section.api_key is not None
        return jc.key_headers(section.api_key.resolve(), section.organization), None
    login = jc.login_headers(section.client_id, section.client_secret.resolve())
    oauth = await stack.enter_async_context(
        Http(
            service="JumpCloud",
            base_url=str(section.oauth_url),
            headers=login,
            pace=Pace(*JUMPCLOUD_PACE),
            in_flight=1,
            reads_only=True,
            counters=traffic,
        )
    )
    account = jc.ServiceAccount(oauth, section.organization)
    return account.headers, account.forget
