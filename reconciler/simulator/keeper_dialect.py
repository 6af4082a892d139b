"""The readings of Keeper's SCIM service that its documentation leaves open, as switches for the simulator."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter

ErrorBody = Literal["scim", "keeper", "empty", "html"]
UsernameChange = Literal["rename", "alias", "ignore", "refuse"]
Totals = Literal["list", "page", "none"]
PatchReply = Literal["body", "none"]
UserAttribute = Literal["externalId", "displayName", "name.givenName", "name.familyName", "active", "groups"]
GroupAttribute = Literal["externalId", "displayName", "members"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How this Keeper behaves where the documentation is silent. The defaults are the likeliest readings.

    Each field says what is known and what each of its values plays.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    # Options of the SCIM method (Commander's `scim create` and `scim edit`).

    role_prefix: str = ""
    """Documented: groups named with this prefix become roles at once. Assumed: they keep name and id form."""

    unique_group_names: bool = False
    """Documented: `--unique-groups` refuses a second group of a name (409 assumed); off by default."""

    # What is shown.

    shows_queued_teams: bool = True
    """Not documented. True: queued teams are listed (Keeper's own clients imply it). False: not listed."""

    gets_hidden_teams: bool = False
    """Not documented; only where queued teams are not listed. True: GET by id shows one. False: 404."""

    shows_pending_memberships: bool = True
    """Not documented. True: shown in `groups` and `members` at once. False: once approved."""

    shows_unset_names: bool = True
    """Not documented. True: an unset given or family name reads "". False: its key is absent."""

    page_cap: int = 10_000
    """Documented: 1000 where no `count` is given, 10,000 at most. A smaller number cuts every page."""

    # What is taken.

    username_change: UsernameChange = "rename"
    """Documented: userName and emails.value follow each other; the effect on the log-in is not.

    "rename": the address is replaced; "alias": the former one stays as an alias; "ignore": 2xx without
    effect; "refuse": 400.
    """

    ignored_attributes: frozenset[UserAttribute] = frozenset()
    """Not documented which are kept. The attributes of a user named here are silently ignored."""

    ignored_group_attributes: frozenset[GroupAttribute] = frozenset()
    """Not documented which are kept. The attributes of a group named here are silently ignored."""

    trims_names: bool = False
    """Not documented. True: white space around names of users and teams is dropped."""

    lowercases_usernames: bool = False
    """Not documented. True: addresses are stored in lower case. False: as sent (compared without case)."""

    truncates_at: int | None = None
    """Not documented. A number: names of users and teams are silently cut to that many characters."""

    team_name_limit: int = 185
    """Assumed: a longer team name is refused with 400 (185 elsewhere in Keeper, 255 in Commander)."""

    requires_reserved_domain: bool = True
    """Reported: a new address must be of a reserved domain, since April 2025. False: any domain is taken."""

    put_clears_missing: bool = True
    """Assumed: PUT clears what it does not name. False: it leaves it."""

    # Linking: POST of an address that is a member of this node. Documented: linked, no error.

    link_updates: bool = True
    """Not documented. True: the attributes and groups sent are taken. False: the record stays as it was."""

    link_unlocks: bool = False
    """Not documented. True: a locked user is unlocked by it. False: stays locked."""

    links_aliases: bool = False
    """Not documented. True: an alias of a member links too. False: 409."""

    # Memberships.

    queues_every_membership: bool = False
    """Documented: of a queued team, or of an invited user, pending. True: so is every other; not in roles."""

    refuses_duplicate_membership: bool = False
    """Not documented. True: adding a membership that exists is 400. False: no effect."""

    refuses_absent_membership: bool = False
    """Not documented. True: removing a membership that does not exist is 400. False: no effect."""

    # What a later release of Keeper might do.

    locks_delete: bool = False
    """Against the documentation. True: a lock deletes the user, with the vault. False: the user is kept."""

    add_replaces_groups: bool = False
    """Against RFC 7644 section 3.5.2.1. True: what is added to `groups` replaces them. False: it is added."""

    # Replies.

    patch_reply: PatchReply = "body"
    """Not documented. "body": 200 with the resource. "none": 204."""

    link_status: int = 200
    """Not documented: 200 or 201 for a linking POST."""

    group_post_status: int = 201
    """Both 200 and 201 are accepted by Keeper's own clients."""

    taken_status: int = 409
    """Documented for a taken address: 409. Not for a personal account, another tenant or another node."""

    unreserved_domain_status: int = 400
    """Not documented: the refusal of an address outside the reserved domains."""

    gone_status: int = 404
    """Assumed: 404 for PATCH, PUT and DELETE of a user who was deleted meanwhile."""

    missing_status: int = 404
    """Documented for GET of a user: 404. Assumed for GET, PATCH and DELETE of a group. Or 410."""

    totals: Totals = "list"
    """RFC 7644: totalResults counts the list. "page": it counts the page alone. "none": it is left out."""

    error_body: ErrorBody = "scim"
    """Not published. "scim": RFC 7644 section 3.12; "keeper": as its other interfaces; "empty"; "html"."""


_ADAPTER: Final = TypeAdapter(Dialect)


def altered(dialect: Dialect, changes: Mapping[str, Any]) -> Dialect:
    """The dialect with `changes`, given as JSON values; raises ValueError for unknown names and values."""
    return _ADAPTER.validate_python({**asdict(dialect), **changes})


def as_json(dialect: Dialect) -> dict[str, Any]:
    """The dialect as a JSON object, sets in order."""
    document: dict[str, Any] = _ADAPTER.dump_python(dialect, mode="json")
    return {name: sorted(value) if isinstance(value, list) else value for name, value in document.items()}
