"""Keeper's SCIM endpoint: reads users and teams, creates and changes them, and names what Keeper refuses.

Users are never replaced (PUT) and never deleted (DELETE): this client has no way to. Everything that goes wrong
is a `KeeperError` whose class is the outcome and whose text is for the administrator.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from loguru import logger

from reconciler import http, model
from reconciler.counting import count
from reconciler.keeper_errors import (
    AddressTaken,
    BadToken,
    Expired,
    Forbidden,
    IncompleteRead,
    KeeperError,
    NotFound,
    Redirected,
    Refused,
    SeatsExceeded,
    TeamNameTaken,
    TeamNotFound,
    Throttled,
    Unanswered,
    Unavailable,
    UnexpectedReply,
    UnknownNode,
)
from reconciler.keeper_lists import READS, EndlessList, List, Reading
from reconciler.keeper_replies import Page, glimpse, page_of, team_of, user_of
from reconciler.model import KeeperTeam, KeeperUser, Listing, OddRecord
from reconciler.tasks import together

__all__ = [
    "AddressTaken",
    "BadToken",
    "Expired",
    "Forbidden",
    "IncompleteRead",
    "Keeper",
    "KeeperError",
    "NotFound",
    "Progress",
    "Redirected",
    "Refused",
    "SeatsExceeded",
    "TeamNameTaken",
    "TeamNotFound",
    "Throttled",
    "Unanswered",
    "Unavailable",
    "UnexpectedReply",
    "UnknownNode",
    "headers",
]

# What this client relies on in Keeper's dialect, in one place. "Documented": Keeper's own SCIM documentation or
# RFC 7643 and 7644. "Keeper's clients": read from its open-source Commander and Google Workspace client.
# "Assumed": nothing says so; the canary of each kind of operation finds out.
#
#  1 Keeper's clients: GET /ServiceProviderConfig answers 2xx for a good token and node only.
#  2 RFC 7644 section 3.4.2.4: a list pages by startIndex (from 1) and count. Documented: at most 10,000 users a
#    request. Keeper's clients ask for 500. Assumed: pages may be shorter, totalResults may be missing or count its
#    page alone; behind the end there is an empty page, or a refusal or no content where the total is that of the
#    list; an empty list may be no content at all.
#  3 Keeper's clients: ids of users are digits, of teams 22 characters of base64url, stable over approval.
#  4 Keeper's clients: externalId, names and groups may be missing, `active` never is;
#    `groups` may name teams of other nodes.
#  5 Documented: POST takes externalId, emails and groups; a member of this node is linked and not refused.
#    userName and emails.value follow each other, so that PATCH needs userName only. Assumed: an alias of a
#    member links too, the reply shows the member's own userName, and the member may take the id, names and
#    teams of the request and be unlocked by it, but is never locked.
#  6 Keeper's clients: PATCH takes one path-less "replace" with dotted names and a boolean active, together
#    with "add" and "remove" of the path `groups`. Assumed: repeating the whole request changes nothing more,
#    and "" clears an externalId or a name that was not set before.
#  7 Assumed: the reply to PATCH is any 2xx with the resource or with no body at all; to POST it is the resource.
#  8 Documented: 409 is a taken address, 428 means no free seat, 404 is what this node does not have; assumed:
#    so is 410.
#    Documented: two teams may share a name, unless the SCIM method has unique groups; assumed: then 409.
#  9 Assumed: a refusal explains itself as a SCIM error (`detail`), in Keeper's form (`message`, `error`), in
#    plain text, or not at all.
MAX_LISTED = 100_000
"""More users or teams than this are no Keeper node; the bound keeps a nonsensical total from being paged, and ends
a list without an end."""
DETAIL_LENGTH = 200
"""Characters of a service's own words that an error repeats."""

_DENIED = "Keeper lists it, and answers that it is not there when it is read alone"
_DIFFERING = "Keeper lists it more than once, and not the same each time"
_PROBE = "/ServiceProviderConfig"
_CORE = "urn:ietf:params:scim:schemas:core:2.0:"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_SECRET = re.compile(r"[A-Za-z0-9_+/=-]{32,}")

Progress = Callable[[str, int, int], None]
"""Told after each page: what is read ("Keeper users"), how many of them so far, how many are announced."""


def headers(token: str) -> dict[str, str]:
    """What every request to the SCIM endpoint carries, as Keeper's SCIM documentation has it."""
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/scim+json, application/json",
        "Content-Type": "application/scim+json",
    }


_R = TypeVar("_R", KeeperUser, KeeperTeam)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[_R]):
    """The differences between users and teams. `hints` say why Keeper may refuse what is sent, by its name in SCIM."""

    path: str
    word: str
    name: str
    schema: str
    read: Callable[[object], _R]
    missing: type[NotFound]
    taken: type[KeeperError]
    hints: Mapping[str, str]

    def hint(self, sent: Iterable[str]) -> str:
        """The advice for a refusal of what was sent; empty where nothing of it is known to be refused."""
        told: list[str] = [self.hints[one] for one in dict.fromkeys(sent) if one in self.hints]
        return " ".join([*told, "Correct what Keeper names; it is tried again."]) if told else ""


_GROUPS = "groups"
_USERS = _Kind(
    "/Users",
    "user",
    model.USER_NAME,
    _CORE + "User",
    user_of,
    NotFound,
    AddressTaken,
    {
        model.USER_NAME: "The address must be valid and its domain reserved for your enterprise (Admin Console or "
        "Keeper support).",
        _GROUPS: "The teams must be of the same node, and not rejected in the Pending Queue.",
    },
)
_TEAMS = _Kind(
    "/Groups",
    "team",
    model.DISPLAY_NAME,
    _CORE + "Group",
    team_of,
    TeamNotFound,
    TeamNameTaken,
    {model.DISPLAY_NAME: "Keeper may refuse names of more than 185 characters."},
)


@dataclass(frozen=True, slots=True)
class _About:
    """What a request is for, so that an error can say to whom what was not done; which class 404 and 409 are."""

    subject: str
    done: str
    missing: type[KeeperError] = UnknownNode
    taken: type[KeeperError] = Refused
    hint: str = ""


class Keeper:
    """The SCIM endpoint of one Keeper node; `http` has the SCIM URL as its base and `headers` as its credentials.

    Every method raises KeeperError. Reads and PATCH are repeated after a lost answer, POST never is.
    """

    def __init__(self, http: http.Http) -> None:
        self._http = http

    async def probe(self) -> None:
        """See that token and node are good; changes nothing."""
        about = _About("The SCIM endpoint", "checked")
        document = self._document(about, await self._send(about, "GET", _PROBE))
        if not isinstance(document, dict):
            raise UnexpectedReply(about.subject, about.done, problem="the reply is not a SCIM configuration")

    async def calm(self) -> None:
        """Wait as long as Keeper has asked everybody to wait; asks Keeper nothing."""
        await self._http.calm()

    @property
    def clock(self) -> http.Clock:
        """The clock by which the age of evidence is measured."""
        return self._http.clock

    async def listing(
        self,
        known_users: Collection[str] = (),
        known_teams: Collection[str] = (),
        progress: Progress | None = None,
        *,
        locked: Collection[str] = (),
        active: Collection[str] = (),
    ) -> Listing:
        """Everything in this node, memberships as users or teams show them.

        Known ids that the lists do not show are asked for one by one, since a list is no proof of absence: they are in
        the result, or `absent` after a 404 or 410, or `unread` where the answer is another. Likewise whatever only one
        of several readings showed: overlooked, it would get a second account or team. Rows of one id that differ say
        nothing but that there is a record, which is asked for too. Nor is a list, which may be stale, proof that one of
        the `locked` was unlocked, or one of the `active` locked: they are asked for too, and are `unread` after a 404,
        since the list may be from before our last change. Raises IncompleteRead for a list that does not add up, or of
        which more than ten rows and more than 5 % cannot be read.
        """
        user_list, glimpsed_users = await self._list(_USERS, progress)
        team_list, glimpsed_teams = await self._list(_TEAMS, progress)
        users, teams = user_list.found, team_list.found
        lost_users = sorted((glimpsed_users.keys() | set(known_users)) - users.keys())
        turned = [id for id in sorted(locked) if id in users and users[id].active]
        turned += [id for id in sorted(active) if id in users and users[id].active is False]
        lost_teams = sorted((glimpsed_teams.keys() | set(known_teams)) - teams.keys())
        more_users, unread_users = await self._one_by_one(_USERS, [*lost_users, *turned])
        more_teams, unread_teams = await self._one_by_one(_TEAMS, lost_teams)
        unread_users |= dict.fromkeys({*turned} - more_users.keys() - unread_users.keys(), _DENIED)
        unread_users |= dict.fromkeys(user_list.differing - more_users.keys() - unread_users.keys(), _DIFFERING)
        unread_teams |= dict.fromkeys(team_list.differing - more_teams.keys() - unread_teams.keys(), _DIFFERING)
        users = {id: user for id, user in _telling(users, teams).items() if id not in unread_users} | more_users
        teams = teams | more_teams
        known = users.keys() | unread_users.keys(), teams.keys() | unread_teams.keys()
        absent = frozenset(lost_users) - known[0] | frozenset(lost_teams) - known[1]
        unread = [
            *_nameless(_USERS, user_list),
            *_nameless(_TEAMS, team_list),
            *(_unread(_USERS, id, why, {**glimpsed_users, **user_list.found}) for id, why in unread_users.items()),
            *(_unread(_TEAMS, id, why, glimpsed_teams) for id, why in unread_teams.items()),
        ]
        return Listing(*_joined(users, teams), absent, tuple(unread))

    async def user(self, id: str) -> KeeperUser | None:
        """One user, None where this node has no such id. Only the teams that the user itself shows."""
        return await self._get(_USERS, id)

    async def team(self, id: str) -> KeeperTeam | None:
        """One team, None where this node has no such id; a queued team may not be shown."""
        return await self._get(_TEAMS, id)

    async def create_user(self, attributes: Mapping[str, str], teams: Collection[str]) -> KeeperUser:
        """Create (invite) a user with teams by their ids; a member of this node is linked instead.

        `attributes` by the names in `model.USER_ATTRIBUTES`, empty ones are not sent. The caller compares what
        comes back: a linked account may have kept its own.
        """
        address = attributes[model.USER_NAME]
        document: dict[str, Any] = {
            "schemas": [_USERS.schema],
            "userName": address,
            "emails": [{"value": address}],
            "displayName": attributes.get(model.DISPLAY_NAME) or address,
            "active": True,
        }
        if external_id := attributes.get(model.EXTERNAL_ID):
            document["externalId"] = external_id
        names = {key: attributes.get(f"name.{key}") for key in ("givenName", "familyName")}
        if given := {key: name for key, name in names.items() if name}:
            document["name"] = given
        if teams:
            document[_GROUPS] = _refs(teams)
        return await self._create(_USERS, _printable(address), "created in Keeper", document)

    async def patch_user(
        self, id: str, values: Mapping[str, str | bool], add: Collection[str] = (), remove: Collection[str] = ()
    ) -> KeeperUser | None:
        """Set attributes (by the names in `model.USER_ATTRIBUTES`, and `active`) and change teams, in one request.

        Returns the user where the reply shows it, else None. Raises NotFound where this node has no such id.
        ValueError where nothing is to be changed.
        """
        operations: list[dict[str, Any]] = [{"op": "replace", "value": dict(values)}] if values else []
        for op, teams in (("add", add), ("remove", remove)):
            if teams:
                operations.append({"op": op, "path": _GROUPS, "value": _refs(teams)})
        active = values.get("active")
        done = "changed" if active is None else "unlocked" if active else "locked"
        shown = await self._patch(_USERS, id, operations, done)
        if shown is not None and shown.active is None and active is not None:
            # What cannot be read confirms nothing.
            problem = "the reply does not show whether the user is active"
            raise UnexpectedReply(f"Keeper user {_printable(id)}", done, problem=problem, uncertain=True)
        return shown

    async def queue_team(self, name: str, external_id: str) -> KeeperTeam:
        """Create a team, which Keeper puts into its Pending Queue until somebody approves it. Its id stays."""
        document = {"schemas": [_TEAMS.schema], "displayName": name, "externalId": external_id}
        return await self._create(_TEAMS, f"The team “{_printable(name)}”", "queued in Keeper", document)

    async def patch_team(self, id: str, values: Mapping[str, str]) -> KeeperTeam | None:
        """Set attributes of a team, by the names in `model.TEAM_ATTRIBUTES`; otherwise as `patch_user`."""
        operations = [{"op": "replace", "value": dict(values)}] if values else []
        return await self._patch(_TEAMS, id, operations, "changed")

    async def delete_team(self, id: str) -> None:
        """Delete a team, and with it what was shared with it; one that is gone already is no error."""
        about = _About(f"Keeper team {_printable(id)}", "deleted", _TEAMS.missing)
        try:
            await self._send(about, "DELETE", _path(_TEAMS, id))
        except NotFound:
            logger.debug("Keeper team {} was gone before it was deleted", id)

    async def _list(self, kind: _Kind[_R], progress: Progress | None) -> tuple[Reading[_R], dict[str, _R]]:
        """Read a whole list; besides, what other readings showed and this one may have overlooked.

        A reading is taken that adds up, or that agrees with the one before it. Where the list keeps shifting, the last
        two that came to an end are taken together: only what both show is listed. Raises IncompleteRead.
        """
        subject, done = _list_of(kind)

        def shown(found: int, total: int) -> None:
            if progress:
                progress(f"Keeper {kind.word}s", found, total)

        def parsed(row: Any) -> tuple[str, _R]:
            resource = kind.read(row)
            return resource.id, resource

        ended: list[Reading[_R]] = []
        glimpsed: dict[str, _R] = {}
        for number in range(READS):
            one = List(lambda start, count: self._page(kind, start, count), parsed, MAX_LISTED, shown)
            try:
                # Rows that move between pages fall through a parallel reading, so only the first one is.
                reading = await one.read(parallel=number == 0)
            except EndlessList:
                raise IncompleteRead(
                    subject, done, problem=f"Keeper shows more than {MAX_LISTED} {kind.word}s"
                ) from None
            if reading.refusal is not None and not reading.ended:
                raise reading.refusal
            if reading.adds_up:
                return _believable(kind, reading, glimpsed)
            if ended and reading.ended and ended[-1].found.keys() == reading.found.keys():
                logger.warning(
                    "Keeper announces {} {}s and lists {}, twice the same: going on with these",
                    _numbers(reading.totals),
                    kind.word,
                    reading.rows,
                )
                return _believable(kind, reading, glimpsed)
            glimpsed |= reading.found
            if reading.ended:
                ended.append(reading)
        if len(ended) > 1:
            before, last = ended[-2:]
            logger.warning("Keeper's list of {}s changed in {} readings: two are taken together", kind.word, READS)
            both = {id: one for id, one in last.found.items() if id in before.found}
            return _believable(kind, replace(last, found=both), glimpsed)
        if reading.totals <= {reading.rows}:
            problem = (
                f"behind the last of {reading.rows} {kind.word}s Keeper lists some of them again, so that nothing "
                "shows whether there are more"
            )
        else:
            problem = (
                f"Keeper announces {_numbers(reading.totals)} {kind.word}s and lists {reading.rows}, which did not add "
                f"up in {READS} readings"
            )
        raise IncompleteRead(subject, done, problem=problem)

    async def _one_by_one(self, kind: _Kind[_R], ids: Collection[str]) -> tuple[dict[str, _R], dict[str, str]]:
        """The records with these ids that Keeper has, and why others could not be read.

        A read that fails belongs to its record. Raises KeeperError where the token is refused, and where more fail than
        `_few` of them.
        """

        async def one(id: str) -> _R | KeeperError | None:
            try:
                return await self._get(kind, id)
            except BadToken:
                raise
            except KeeperError as error:
                return error

        answers = dict(zip(ids, await together(one(id) for id in ids), strict=True))
        errors = {id: answer for id, answer in answers.items() if isinstance(answer, KeeperError)}
        if len(errors) > _few(len(answers)):
            raise next(iter(errors.values()))
        found = {id: one for id, one in answers.items() if one is not None and not isinstance(one, KeeperError)}
        return found, {id: str(error) for id, error in errors.items()}

    async def _page(self, kind: _Kind[_R], start: int, count: int) -> Page:
        # The endpoint has answered the first page: what is refused of another one is the page.
        about = _About(*_list_of(kind), UnknownNode if start == 1 else Refused)
        try:
            reply = await self._send(about, "GET", kind.path, params={"startIndex": start, "count": count})
        except Refused as error:
            if start == 1 or error.status not in _NO_SUCH_PAGE:
                raise
            return Page((), None, error)
        try:
            document = self._document(about, reply)
        except KeeperError as error:
            if reply.status != _NO_CONTENT:
                raise
            if start > 1:
                return Page((), None, error)
            # No content is an empty list, but not from something that answers everything so in Keeper's place.
            try:
                await self.probe()
            except KeeperError:
                raise error from None
            return Page((), None)
        try:
            return page_of(document)
        except ValueError as error:
            problem = f"the reply is not a SCIM list ({error})"
            raise UnexpectedReply(about.subject, about.done, problem=problem, status=reply.status) from None

    async def _get(self, kind: _Kind[_R], id: str) -> _R | None:
        about = _About(f"Keeper {kind.word} {_printable(id)}", "read", kind.missing)
        try:
            reply = await self._send(about, "GET", _path(kind, id))
        except NotFound:
            return None
        return self._shown(kind, about, reply, id)

    async def _create(self, kind: _Kind[_R], subject: str, done: str, document: Mapping[str, Any]) -> _R:
        # With teams in the request, 404 may as well be about one of them: no reason to stop everything.
        missing = Refused if _GROUPS in document else UnknownNode
        about = _About(subject, done, missing, kind.taken, kind.hint(document))
        reply = await self._send(about, "POST", kind.path, json=document, repeatable=False)
        try:
            made = self._shown(kind, about, reply)
            if model.USER_NAME in made.unreadable:
                problem = "the reply does not show the address of the user"
                raise UnexpectedReply(about.subject, about.done, problem=problem, status=reply.status)
        except UnexpectedReply as error:
            error.uncertain = True
            raise
        return made

    async def _patch(self, kind: _Kind[_R], id: str, operations: list[dict[str, Any]], done: str) -> _R | None:
        if not operations:
            raise ValueError("a PATCH without anything to change")
        sent = [name for one in operations for name in ([one["path"]] if "path" in one else one["value"])]
        taken = kind.taken if kind.name in sent else Refused
        about = _About(f"Keeper {kind.word} {_printable(id)}", done, kind.missing, taken, kind.hint(sent))
        document = {"schemas": [_PATCH], "Operations": operations}
        reply = await self._send(about, "PATCH", _path(kind, id), json=document)
        if not reply.body.strip():
            return None
        try:
            return self._shown(kind, about, reply, id)
        except UnexpectedReply as error:
            # A web page with status 200 is no answer of Keeper's: a proxy may have answered in its place.
            error.uncertain = True
            raise

    async def _send(
        self,
        about: _About,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        repeatable: bool = True,
    ) -> http.Reply:
        """One request with a 2xx for an answer; whatever else comes is raised as the outcome that it is."""
        try:
            reply = await self._http.request(method, path, params=params, json=json, repeatable=repeatable)
        except http.HttpError as error:
            raise _failure(about, error) from error
        if 200 <= reply.status < 300:
            return reply
        # 410 is as good as 404: the resource is not there (RFC 9110 section 15.5.11).
        depends = {404: about.missing, 410: about.missing, 409: about.taken}
        outcome = depends.get(reply.status) or _OUTCOMES.get(reply.status, Refused)
        if outcome is BadToken and path != _PROBE and await self._accepts_token():
            outcome = Forbidden
        advice = (_READ_REFUSED if method == "GET" else about.hint) if outcome is Refused else ""
        # A refusal is the answer to this attempt; one before it may have done what was asked.
        uncertain = reply.doubtful and method != "GET"
        raise outcome(
            about.subject, about.done, advice=advice, status=reply.status, detail=_detail(reply), uncertain=uncertain
        )

    async def _accepts_token(self) -> bool:
        """Whether Keeper accepts the token though it has refused a request with it."""
        try:
            await self.probe()
        except KeeperError:
            return False
        return True

    def _document(self, about: _About, reply: http.Reply) -> Any:
        try:
            return reply.json()
        except http.BadReply as error:
            raise _failure(about, error) from error

    def _shown(self, kind: _Kind[_R], about: _About, reply: http.Reply, id: str | None = None) -> _R:
        """The resource in a reply; UnexpectedReply where there is none, or another than the one with `id`."""
        document = self._document(about, reply)
        try:
            resource = kind.read(document)
            if id not in (None, resource.id):
                raise ValueError(f"it has the id {resource.id}")
        except ValueError as error:
            problem = f"the reply does not show the {kind.word} ({error})"
            raise UnexpectedReply(about.subject, about.done, problem=problem, status=reply.status) from None
        return resource


_READ_REFUSED = "It is tried again. If it stays so, look for a firewall or proxy, or ask Keeper support."
"""The advice where Keeper refuses a read: nothing was sent that could be corrected."""
_NO_SUCH_PAGE = (400, 404, 416)
"""Statuses by which a service may say that a list has no page there; so does `_NO_CONTENT`."""
_NO_CONTENT = 204
_OUTCOMES: Mapping[int, type[KeeperError]] = {401: BadToken, 403: Forbidden, 428: SeatsExceeded}
"""What a status means whatever was asked; 404 and 409 depend on it, the rest is Refused."""


def _failure(about: _About, error: http.HttpError) -> KeeperError:
    """A request without a usable answer, as an outcome."""
    read = error.method == "GET"
    uncertain = isinstance(error, http.Unanswered) and not read
    outcome: type[KeeperError] = Unavailable
    if isinstance(error, http.Throttled):
        outcome = Throttled
    elif isinstance(error, http.TooLate):
        outcome = Expired
    elif isinstance(error, http.Redirected):
        outcome = Redirected
    elif isinstance(error, http.BadReply):
        outcome = UnexpectedReply
    elif uncertain:
        outcome = Unanswered
    return outcome(
        about.subject, about.done, problem=error.problem, advice="" if uncertain else error.advice, uncertain=uncertain
    )


def _telling(users: Mapping[str, KeeperUser], teams: Mapping[str, KeeperTeam]) -> Mapping[str, KeeperUser]:
    """The users as listed; their teams are not known where neither a user nor a team of the lists names any.

    A record leaves out what is empty (RFC 7643 section 2.5). That all do says that the lists do not show memberships.
    """
    silent = all(user.silent for user in users.values()) and all(team.silent for team in teams.values())
    if not teams or not silent:
        return users
    return {id: replace(user, teams=None) for id, user in users.items()}


def _joined(
    users: Mapping[str, KeeperUser], teams: Mapping[str, KeeperTeam]
) -> tuple[dict[str, KeeperUser], dict[str, KeeperTeam]]:
    """Users and teams, each with the memberships that either side shows. Members outside the node stay as they are.

    What one side cannot say stays unknown for it: a team that shows a member does not show all teams of that user.
    """
    teams_of: dict[str, set[str]] = {}
    members_of: dict[str, set[str]] = {}
    for team in teams.values():
        for member in team.members or ():
            teams_of.setdefault(member, set()).add(team.id)
    for user in users.values():
        for id in user.teams or ():
            members_of.setdefault(id, set()).add(user.id)
    return (
        {
            id: user if user.teams is None else replace(user, teams=user.teams | teams_of.get(id, set()))
            for id, user in users.items()
        },
        {
            id: team if team.members is None else replace(team, members=team.members | members_of.get(id, set()))
            for id, team in teams.items()
        },
    )


def _few(number: int) -> int:
    """How many of so many records may be unreadable before all of them count as unreadable."""
    return max(10, number // 20)


def _believable(kind: _Kind[_R], reading: Reading[_R], glimpsed: dict[str, _R]) -> tuple[Reading[_R], dict[str, _R]]:
    """The reading, and what is glimpsed besides, the records that differ from row to row among it.

    Raises IncompleteRead where too much of it cannot be read to trust the rest.
    """
    odd = [one for one in reading.found.values() if one.unreadable and one.id not in reading.differing]
    number = len(odd) + len(reading.nameless) + len(reading.differing)
    if number <= _few(reading.rows):
        differing = {id: one for id, one in reading.found.items() if id in reading.differing}
        sure = {id: one for id, one in reading.found.items() if id not in differing}
        return replace(reading, found=sure), glimpsed | differing
    first = f"{odd[0].unreadable[0]} of the {kind.word} with the id {odd[0].id}" if odd else "an id"
    raise IncompleteRead(
        *_list_of(kind), problem=f"{number} of {count(reading.rows, kind.word)} cannot be read, among others {first}"
    )


def _nameless(kind: _Kind[_R], reading: Reading[_R]) -> Iterator[OddRecord]:
    for number, row in enumerate(reading.nameless.values(), 1):
        name, external_id = glimpse(row, kind.name)
        yield OddRecord(kind.word, name or f"{kind.word} without a readable id {number}", "", external_id, ("id",))


def _unread(kind: _Kind[_R], id: str, why: str, shown: Mapping[str, KeeperUser | KeeperTeam]) -> OddRecord:
    attributes = shown[id].attributes if id in shown else {}
    return OddRecord(kind.word, attributes.get(kind.name, ""), id, attributes.get(model.EXTERNAL_ID, ""), problem=why)


def _list_of(kind: _Kind[_R]) -> tuple[str, str]:
    return f"Keeper's list of {kind.word}s", "read"


def _path(kind: _Kind[_R], id: str) -> str:
    return f"{kind.path}/{quote(id, safe='')}"


def _refs(ids: Collection[str]) -> list[dict[str, str]]:
    return [{"value": id} for id in sorted(ids)]


def _numbers(totals: Iterable[int]) -> str:
    return " or ".join(str(total) for total in sorted(totals))


def _detail(reply: http.Reply) -> str:
    """Keeper's own words for a refusal, without what may be a credential; empty for a web page or no body."""
    text = reply.body[:65536].decode("utf-8", "replace").strip()
    try:
        document = reply.json()
    except http.BadReply:
        words = "" if text.startswith("<") else text
    else:
        told = [document.get(key) for key in ("detail", "message", "error")] if isinstance(document, dict) else []
        words = next((word for word in told if isinstance(word, str) and word.strip()), "")
    return _printable(_SECRET.sub("[…]", words))


def _printable(text: str) -> str:
    """One line of at most DETAIL_LENGTH characters, without controls."""
    visible = "".join(char if char.isprintable() else " " for char in unicodedata.normalize("NFC", text))
    line = " ".join(visible.split())
    return line if len(line) <= DETAIL_LENGTH else line[: DETAIL_LENGTH - 1] + "…"
