"""The two programs that know of Keeper's approvals what SCIM does not: the inventory, and who approves."""

import json
from collections.abc import Collection
from datetime import datetime

from loguru import logger

from reconciler import programs
from reconciler.approval import APPROVE, INVENTORY, approval_document
from reconciler.config import Settings
from reconciler.inventory import InventoryError, parse
from reconciler.model import Inventory
from reconciler.policy import Mode
from reconciler.waiting import Waiting

INVENTORY_LIMIT = 60.0
APPROVE_LIMIT = 120.0
"""Seconds that each program may take: Commander logs in and decrypts the whole enterprise first."""
INVENTORY_BYTES = 64 << 20


def names(settings: Settings) -> frozenset[str]:
    """The names of those that are used with these settings: nothing is approved while only observing."""
    approves = settings.teams.approve_command and settings.policy().mode is not Mode.OBSERVE
    used = {INVENTORY: settings.keeper.inventory_command, APPROVE: approves}
    return frozenset(name for name, command in used.items() if command)


async def read_inventory(settings: Settings, now: datetime) -> Inventory:
    """What `keeper.inventory_command` prints; raises InventoryError where it can't be had or used."""
    ran = await programs.run(
        settings.keeper.inventory_command,
        b"",
        limit=INVENTORY_LIMIT,
        env=programs.environment(settings.secrets().values()),
        most=INVENTORY_BYTES,
    )
    if ran.problem:
        programs.log_output(INVENTORY, programs.Ran(b"", ran.errors, ran.problem))
        raise InventoryError(ran.problem)
    return parse(ran.output, now)


async def approve(settings: Settings, waits: Collection[Waiting]) -> str:
    """Run `teams.approve_command`, with what may be approved on its standard input; returns what went wrong, or "".

    That it ended well proves nothing (Commander ends with 0 when approvals failed): the inventory tells, or the next
    resync.
    """
    given = json.dumps(approval_document(settings.tenant, waits), ensure_ascii=False).encode()
    ran = await programs.run(
        settings.teams.approve_command,
        given,
        limit=APPROVE_LIMIT,
        env=programs.environment(settings.secrets().values()),
    )
    programs.log_output(APPROVE, ran)
    if ran.problem:
        logger.warning("{} {}", APPROVE, ran.problem)
    return ran.problem
