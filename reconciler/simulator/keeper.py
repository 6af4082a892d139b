"""Keeper's SCIM service for one enterprise. It is strict; for what Keeper leaves undocumented see Dialect."""

import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

from reconciler.simulator import keeper_scim as scim
from reconciler.simulator.keeper_dialect import Dialect, altered, as_json
from reconciler.simulator.keeper_records import (
    DEFAULT_DOMAIN,
    DEFAULT_NODE,
    Account,
    Change,
    Seed,
    Team,
    joined,
    parted,
    with_text,
)
from reconciler.simulator.keeper_scim import Edit, Refusal, SetActive, SetMembership, SetText
from reconciler.simulator.keeper_state import Enterprise, atomic
from reconciler.simulator.service import Request, Response

BASE_PATH: Final = "/api/rest/scim/v2"
_PATH: Final = re.compile(re.escape(BASE_PATH) + r"/([^/]+)/(Users|Groups|ServiceProviderConfig)(?:/([^/]+))?")
_MISSING: Final = object()
"""The value of a field that is not shown."""
_USER_FIELDS: Final = {
    "displayName": "display_name",
    "externalId": "external_id",
    "name.givenName": "given_name",
    "name.familyName": "family_name",
}
_CONTROLS: Final = (
    "token", "new_token", "revoke_token", "set_seats", "reserve_domain", "take_elsewhere",
    "add_user", "lock", "unlock", "delete_user", "change_email", "rename_user", "accept_invitation",
    "move_user_to_other_node",
    "add_team", "rename_team", "delete_team", "approve_team", "approve_all", "add_member", "remove_member",
    "throttle", "set_dialect", "show_oddly", "refuse", "inventory", "load",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Call:
    """One authorised request: its node and, where the path names one, the id of its subject."""

    request: Request
    node: str
    subject: str


@dataclass(slots=True)
class _Throttle:
    after: int
    seconds: float
    as_403: bool
    left: int
    until: float | None = None


class Keeper(Enterprise):
    """One enterprise with a SCIM method on each node; what an administrator can do is in Enterprise.

    `dialect` may be replaced at any time. `changes` lists every effect that SCIM requests had. `on_change` is
    called with the effects of each request that had any, before the response is out and under the lock: it may
    look at everything, but must not wait for another thread.
    """

    def __init__(
        self,
        nodes: Iterable[str] = (DEFAULT_NODE,),
        *,
        domains: Iterable[str] = (DEFAULT_DOMAIN,),
        seats: int | None = None,
        dialect: Dialect | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(nodes, domains, seats)
        self.dialect = dialect or Dialect()
        self.changes: list[Change] = []
        self.on_change: Callable[[Sequence[Change]], None] | None = None
        self._clock = clock
        self._throttle: _Throttle | None = None
        self._odd: dict[str, dict[str, Any]] = {}
        self._refused: dict[str, int] = {}

    def base_path(self, node: str | None = None) -> str:
        """The path of a node's SCIM endpoint, without a slash at its end."""
        return f"{BASE_PATH}/{self._node(node)}"

    @property
    def requests(self) -> int:
        """How many requests were answered so far, whatever the answer."""
        return self._request

    @property
    def controls(self) -> Mapping[str, Callable[..., object]]:
        """The public methods that take and return JSON values, by name. They raise ValueError or TypeError."""
        return {name: getattr(self, name) for name in _CONTROLS}

    @atomic
    def throttle(self, after: int | None, seconds: float = 60, as_403: bool = True) -> None:
        """Answer `after` requests, then refuse all for `seconds`, and so on; None ends it.

        As Keeper's other interfaces do it: 403 without Retry-After; else 429 with it.
        """
        self._throttle = None if after is None else _Throttle(after, seconds, as_403, left=after)

    @atomic
    def show_oddly(self, id: str, fields: Mapping[str, Any] | None = None, missing: Sequence[str] = ()) -> None:
        """Show a user or team with these fields in place of its own, and without the missing ones; neither ends it.

        What is stored stays as it is: only what is shown is odd, in lists too.
        """
        self._odd[id] = {**dict.fromkeys(missing, _MISSING), **(fields or {})}

    @atomic
    def refuse(self, subject: str, status: int | None = 403) -> None:
        """Refuse every request for one user or team by its id, or for the list "Users" or "Groups"; None ends it."""
        self._refused.pop(subject, None)
        if status is not None:
            self._refused[subject] = status

    def _oddly(self, id: str, document: dict[str, Any]) -> dict[str, Any]:
        document |= self._odd.get(id, {})
        return {name: value for name, value in document.items() if value is not _MISSING}

    @atomic
    def set_dialect(self, /, **changes: Any) -> None:
        """Change fields of the dialect, given as JSON values."""
        self.dialect = altered(self.dialect, changes)

    @atomic
    def load(self, document: Mapping[str, Any]) -> None:
        """Replace the enterprise by a seed document (see Seed), all or nothing; `changes` starts anew."""
        seed = Seed.model_validate(document)
        dialect = altered(Dialect(), seed.dialect) if seed.dialect else self.dialect
        former = self.__dict__.copy()
        try:
            self._restore(seed)
        except ValueError:
            self.__dict__.update(former)
            raise
        self.dialect = dialect
        self.changes = []

    @atomic
    def dump(self) -> dict[str, Any]:
        """The seed document of the enterprise as it is."""
        return self._seed(as_json(self.dialect)).model_dump(mode="json")

    @atomic
    def handle(self, request: Request) -> Response:
        """Answer one request; a refused one has no effect."""
        self._request += 1
        effects: list[Change] = []
        self._effects = effects
        try:
            response = self._throttled() or self._answer(request)
        except Refusal as refusal:
            response = scim.render_refusal(refusal, self.dialect)
        finally:
            self._effects = None
        if effects:
            self.changes.extend(effects)
            if self.on_change:
                self.on_change(tuple(effects))
        return response

    def _throttled(self) -> Response | None:
        throttle = self._throttle
        if throttle is None:
            return None
        now = self._clock()
        if throttle.until is not None and now >= throttle.until:
            throttle.until, throttle.left = None, throttle.after
        if throttle.until is None and throttle.left > 0:
            throttle.left -= 1
            return None
        if throttle.until is None:
            throttle.until = now + throttle.seconds
        wait = max(1, math.ceil(throttle.until - now))
        document = {"error": "throttled", "message": f"Too many requests. Please wait {_in_words(wait)}."}
        if throttle.as_403:
            return Response.of_json(403, document)
        return Response.of_json(429, document, {"retry-after": str(wait)})

    def _answer(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise Refusal(404, "No such resource")
        self._authorize(request, match[1])
        call = _Call(request, match[1], unquote(match[3] or ""))
        listed = request.method == "GET" and not match[3]
        if (status := self._refused.get(match[2] if listed else call.subject)) is not None:
            raise Refusal(status, "Refused")
        methods = self._methods(match[2], one=match[3] is not None)
        if request.method not in methods:
            raise Refusal(405, f"{request.method} is not supported here", {"allow": ", ".join(methods)})
        return methods[request.method](call)

    def _authorize(self, request: Request, node: str) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        nodes = [name for name, valid in self._tokens.items() if valid and valid == token.strip()]
        if scheme.lower() != "bearer" or not nodes:
            raise Refusal(401, "The token is not valid", {"www-authenticate": "Bearer"})
        if node not in nodes:
            raise Refusal(403, "The token is not valid for this node")

    def _methods(self, resource: str, *, one: bool) -> Mapping[str, Callable[[_Call], Response]]:
        match resource, one:
            case "ServiceProviderConfig", False:
                return {"GET": lambda _: scim.reply(200, scim.service_provider_config())}
            case "Users", False:
                return {"GET": self._list_users, "POST": self._post_user}
            case "Users", True:
                return {
                    "GET": self._get_user,
                    "PUT": self._put_whole_user,
                    "PATCH": self._patch_user,
                    "DELETE": self._delete_user,
                }
            case "Groups", False:
                return {"GET": self._list_groups, "POST": self._post_group}
            case "Groups", True:
                return {"GET": self._get_group, "PATCH": self._patch_group, "DELETE": self._delete_group}
        raise Refusal(404, "No such resource")

    def _page(self, call: _Call, ids: Collection[str], render: Callable[[str], dict[str, Any]]) -> Response:
        start, count = scim.paging_of(call.request)
        size = min(scim.DEFAULT_COUNT if count is None else count, self.dialect.page_cap)
        resources = [render(subject) for subject in islice(ids, start - 1, start - 1 + size)]
        document = scim.render_list(len(ids), start, resources)
        if self.dialect.totals == "page":
            document["totalResults"] = len(resources)
        elif self.dialect.totals == "none":
            del document["totalResults"]
        return scim.reply(200, document)

    def _patched(self, document: dict[str, Any]) -> Response:
        return scim.reply(200, document) if self.dialect.patch_reply == "body" else Response(204)

    # Users.

    def _list_users(self, call: _Call) -> Response:
        found: Collection[str] = self._ids("node", call.node)
        wanted = scim.filter_of(call.request, ("id", "userName", "displayName"))
        if wanted:
            found = self._matching_users(found, wanted)
        return self._page(call, found, lambda user: self._rendered_user(self._users[user]))

    def _matching_users(self, ids: Collection[str], wanted: scim.Filter) -> list[str]:
        text = wanted.value.casefold()
        match wanted.attribute:
            case "id":
                return [wanted.value] if wanted.value in ids else []
            case "userName":
                holder = self._holder(text)
                held = holder is not None and holder.id in ids and holder.email.casefold() == text
                return [holder.id] if holder and held else []
            case _:
                users = [self._users[user] for user in ids]
                return [user.id for user in users if (user.display_name or user.email).casefold() == text]

    def _rendered_user(self, user: Account) -> dict[str, Any]:
        return self._oddly(user.id, scim.render_user(user, self.dialect))

    def _user(self, call: _Call, missing: int) -> Account:
        user = self._users.get(call.subject)
        if user is None or user.node != call.node:
            raise Refusal(missing, "User not found")
        return user

    def _get_user(self, call: _Call) -> Response:
        return scim.reply(200, self._rendered_user(self._user(call, self.dialect.missing_status)))

    def _post_user(self, call: _Call) -> Response:
        edits = scim.read_user(scim.document_of(call.request))
        email = scim.user_name(edits) or ""
        holder = self._holder(email)
        if holder and self._links(holder, email, call.node):
            return self._link(holder, edits)
        self._check_address(email, call.node)
        if self._seats is not None and len(self._users) >= self._seats:
            raise Refusal(428, "Number of licensed seats was exceeded")
        # Not documented: `active` of a new user. Taken as without effect, since nobody invited can be locked.
        edits = [edit for edit in edits if not isinstance(edit, SetActive)]
        new = Account(self._make_user_id(), call.node, self._stored_address(email))
        user = self._edited(new, edits)
        self._put_user(user)
        return scim.reply(201, self._rendered_user(user))

    def _links(self, holder: Account, email: str, node: str) -> bool:
        primary = holder.email.casefold() == email.casefold()
        return holder.node == node and (primary or self.dialect.links_aliases)

    def _link(self, user: Account, edits: list[Edit]) -> Response:
        """POST for a member of this node: `active` is not taken, and the address stays as it is stored."""
        linked = replace(user, locked=False) if self.dialect.link_unlocks else user
        if self.dialect.link_updates:
            kept = [edit for edit in edits if not isinstance(edit, SetActive) and not _is_user_name(edit)]
            linked = self._edited(linked, kept, again=True)
        self._put_user(linked, what="link_user")
        return scim.reply(self.dialect.link_status, self._rendered_user(linked))

    def _put_whole_user(self, call: _Call) -> Response:
        """PUT. `groups` is read-only in RFC 7643 and documented for POST and PATCH only: not taken."""
        user = self._user(call, self.dialect.gone_status)
        edits = scim.read_user(scim.document_of(call.request))
        named = {edit.attribute for edit in edits if isinstance(edit, SetText)}
        cleared = [SetText(name, None) for name in scim.USER_TEXTS if name not in named]
        kept = [edit for edit in edits if not isinstance(edit, SetMembership)]
        user = self._commit(user, [*kept, *(cleared if self.dialect.put_clears_missing else ())])
        return scim.reply(200, self._rendered_user(user))

    def _patch_user(self, call: _Call) -> Response:
        user = self._user(call, self.dialect.gone_status)
        user = self._commit(user, scim.read_user_patch(scim.document_of(call.request)))
        return self._patched(self._rendered_user(user))

    def _delete_user(self, call: _Call) -> Response:
        """DELETE only locks; of an invited user, assumed: as active:false."""
        self._lock_or_delete(self._user(call, self.dialect.gone_status))
        return Response(204)

    def _commit(self, user: Account, edits: Iterable[Edit]) -> Account:
        """Take the edits; a user who was only invited and becomes inactive is deleted."""
        edited = self._edited(user, edits)
        if edited.locked and (edited.invited or (self.dialect.locks_delete and not user.locked)):
            self._drop_user(user)
        else:
            self._put_user(edited)
        return edited

    def _edited(self, user: Account, edits: Iterable[Edit], *, again: bool = False) -> Account:
        """The user with the edits, all checked; `again` forgives memberships that exist."""
        ignored: frozenset[str] = self.dialect.ignored_attributes
        for edit in edits:
            match edit:
                case SetText("userName", str(email)):
                    user = self._with_address(user, email)
                case SetText(attribute, text) if attribute not in ignored:
                    kept = text if attribute == "externalId" else self._stored_name(text)
                    user = with_text(user, _USER_FIELDS[attribute], kept)
                case SetActive(active) if "active" not in ignored:
                    user = replace(user, locked=not active)
                case SetMembership(add, ids) if "groups" not in ignored:
                    if add and self.dialect.add_replaces_groups:
                        user = replace(user, teams=(), pending_teams=())
                    for team in ids:
                        user = self._with_membership(user, self._own_team(team, user.node), add, again)
        return user

    def _with_address(self, user: Account, email: str) -> Account:
        address = self._stored_address(email)
        if email.casefold() != user.email.casefold():
            if self.dialect.username_change == "ignore":
                return user
            if self.dialect.username_change == "refuse":
                raise Refusal(400, "userName cannot be changed")
            if email.casefold() not in user.addresses:
                self._check_address(email, user.node)
        return self._readdressed(user, address, keep_alias=self.dialect.username_change == "alias")

    def _check_address(self, email: str, node: str) -> None:
        holder = self._holder(email)
        if holder and holder.node == node:
            raise Refusal(409, "Email already taken")
        if holder or email.casefold() in self._elsewhere:
            raise Refusal(self.dialect.taken_status, "Email already taken")
        domain = email.rpartition("@")[2].casefold()
        if self.dialect.requires_reserved_domain and domain not in self._domains:
            raise Refusal(self.dialect.unreserved_domain_status, f"The domain {domain} is not reserved")

    def _stored_address(self, email: str) -> str:
        return email.lower() if self.dialect.lowercases_usernames else email

    def _stored_name(self, name: str | None) -> str:
        text = name or ""
        return (text.strip() if self.dialect.trims_names else text)[: self.dialect.truncates_at]

    # Memberships.

    def _own_team(self, team: str, node: str) -> Team:
        found = self._teams.get(team)
        if found is None or found.node != node:
            raise Refusal(400, f"No team {team} in this node")
        return found

    def _own_user(self, user: str, node: str) -> Account:
        found = self._users.get(user)
        if found is None or found.node != node:
            raise Refusal(400, f"No user {user} in this node")
        return found

    def _with_membership(self, user: Account, team: Team, add: bool, again: bool) -> Account:
        present = team.id in user.teams or team.id in user.pending_teams
        if add and present and self.dialect.refuses_duplicate_membership and not again:
            raise Refusal(400, "The user is a member already")
        if not add and not present and self.dialect.refuses_absent_membership:
            raise Refusal(400, "The user is not a member")
        if add:
            return joined(user, team, at_once=not self.dialect.queues_every_membership)
        return parted(user, team.id)

    # Groups.

    def _list_groups(self, call: _Call) -> Response:
        wanted = scim.filter_of(call.request, ("id", "displayName"))
        shown = [
            team
            for team in self._teams.values()
            if team.node == call.node and (team.approved or self.dialect.shows_queued_teams)
        ]
        if wanted:
            text = wanted.value.casefold()
            by_id = wanted.attribute == "id"
            shown = [t for t in shown if (t.id == wanted.value if by_id else t.name.casefold() == text)]
        return self._page(call, [team.id for team in shown], lambda team: self._render_group(self._teams[team], call))

    def _render_group(self, team: Team, call: _Call) -> dict[str, Any]:
        if scim.excludes_members(call.request):
            return self._oddly(team.id, scim.render_group(team, None))
        pending = self._ids("pending", team.id) if self.dialect.shows_pending_memberships else ()
        return self._oddly(team.id, scim.render_group(team, [*self._ids("team", team.id), *pending]))

    def _team(self, call: _Call) -> Team:
        team = self._teams.get(call.subject)
        if team is None or team.node != call.node:
            raise Refusal(self.dialect.missing_status, "Group not found")
        return team

    def _get_group(self, call: _Call) -> Response:
        team = self._team(call)
        if not (team.approved or self.dialect.shows_queued_teams or self.dialect.gets_hidden_teams):
            raise Refusal(self.dialect.missing_status, "Group not found")
        return scim.reply(200, self._render_group(team, call))

    def _post_group(self, call: _Call) -> Response:
        edits = scim.read_group(scim.document_of(call.request))
        team = self._edited_team(Team(self._make_team_id(), call.node, name="", approved=False), edits, new=True)
        prefix = self.dialect.role_prefix
        if prefix and team.name.startswith(prefix):
            team = replace(team, role=True, approved=True)
        self._store_team(team, edits)
        return scim.reply(self.dialect.group_post_status, self._render_group(team, call))

    def _patch_group(self, call: _Call) -> Response:
        team = self._team(call)
        edits = scim.read_group_patch(scim.document_of(call.request))
        team = self._edited_team(team, edits, new=False)
        self._store_team(team, edits)
        return self._patched(self._render_group(team, call))

    def _delete_group(self, call: _Call) -> Response:
        self._drop_team(self._team(call))
        return Response(204)

    def _edited_team(self, team: Team, edits: Iterable[Edit], *, new: bool) -> Team:
        ignored: frozenset[str] = self.dialect.ignored_group_attributes
        for edit in edits:
            match edit:
                case SetText("displayName", name) if new or "displayName" not in ignored:
                    team = replace(team, name=self._free_team_name(name or "", team))
                case SetText("externalId", external_id) if "externalId" not in ignored:
                    team = replace(team, external_id=external_id or None)
        return team

    def _free_team_name(self, name: str, team: Team) -> str:
        stored = self._stored_name(name)
        if len(stored) > self.dialect.team_name_limit:
            raise Refusal(400, f"displayName: max={self.dialect.team_name_limit}, length={len(stored)}")
        others = (t for t in self._teams.values() if t.node == team.node and t.id != team.id)
        if self.dialect.unique_group_names and any(other.name == stored for other in others):
            raise Refusal(409, "A group with this name exists")
        return stored

    def _store_team(self, team: Team, edits: Iterable[Edit]) -> None:
        """Check the memberships that are asked for, then store the team and them."""
        users: dict[str, Account] = {}
        if "members" not in self.dialect.ignored_group_attributes:
            for edit in edits:
                if isinstance(edit, SetMembership):
                    for member in edit.ids:
                        user = users.get(member) or self._own_user(member, team.node)
                        users[member] = self._with_membership(user, team, edit.add, again=False)
        self._put_team(team)
        for user in users.values():
            self._put_user(user)


def _is_user_name(edit: Edit) -> bool:
    return isinstance(edit, SetText) and edit.attribute == "userName"


def _in_words(seconds: int) -> str:
    number, unit = (seconds // 60, "minute") if seconds % 60 == 0 else (seconds, "second")
    return f"{number} {unit}{'' if number == 1 else 's'}"
