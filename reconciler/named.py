"""What the settings name and nobody is called: a typo in `policy.protect` protects nobody."""

from collections.abc import Iterator

from reconciler.addresses import alike_key
from reconciler.jumpcloud import JumpCloud, PersonAmbiguous
from reconciler.keeper import Keeper
from reconciler.model import USER_NAME, Directory
from reconciler.pilot import may_be_unread, names_nobody
from reconciler.policy import Policy, TeamPolicy


async def nowhere(policy: Policy, directory: Directory, jumpcloud: JumpCloud, keeper: Keeper) -> list[str]:
    """A sentence for each address that nobody has in JumpCloud or in Keeper, and for each group or pattern of groups
    that is in no scope. Asks only for addresses that are not in scope. Raises what the clients raise."""
    only = policy.only
    wanted = dict.fromkeys(policy.protect, "policy.protect")
    wanted |= dict.fromkeys(only.users if only else (), "policy.only")
    left = wanted.keys() - {alike_key(user.email) for user in directory.users.values()}
    if left:
        listing = await keeper.listing()
        left -= {alike_key(user.attributes.get(USER_NAME, "")) for user in listing.users.values()}
    missing = [address for address in sorted(left) if not await _known(jumpcloud, address)]
    names = {group.name for group in directory.groups.values()}
    return [
        *(
            f"{wanted[address]}: nobody has the address {address}, neither in JumpCloud nor in Keeper"
            for address in missing
        ),
        *(
            f"policy.only: no group in scope is called {name}"
            for name in sorted((only.groups if only else set()) - names)
        ),
        *_patterns(policy.teams, names),
    ]


def empty_pilot(policy: Policy, directory: Directory) -> str:
    """Say that `policy.only` matches nobody in scope; "" where it matches somebody, or is not set."""
    only = policy.only
    if only is None or not names_nobody(policy, directory):
        return ""
    named = [f"the group {name}" for name in sorted(only.groups)] + [
        f"the address {name}" for name in sorted(only.users)
    ]
    if may_be_unread(policy, directory):
        return (
            "policy.only matches nobody in scope as far as JumpCloud's groups can be read; one of them has no usable "
            f"name. It names {', '.join(named)}. Correct the group in JumpCloud, or its name in the settings"
        )
    return (
        "policy.only matches nobody in scope, so nothing is sent for anybody in scope. It names "
        f"{', '.join(named)}. Correct it, or bind the group to the application; without the key there is no pilot"
    )


async def _known(jumpcloud: JumpCloud, address: str) -> bool:
    try:
        return await jumpcloud.person(email=address) is not None
    except PersonAmbiguous:
        return True


def _patterns(teams: TeamPolicy, names: set[str]) -> Iterator[str]:
    for key in ("include", "exclude", "review"):
        for pattern in getattr(teams, key):
            if pattern != "*" and not any(map(TeamPolicy(include=(pattern,)).manages, names)):
                yield f"teams.{key}: no group in scope is like {pattern}"
