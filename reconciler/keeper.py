"""Keeper's SCIM endpoint: reads users and teams, creates and changes them, and names what Keeper refuses.

Users are never replaced (PUT) and never deleted (DELETE): this client has no way to. Everything that goes wrong
is a `KeeperError` whose class is the outcome and whose text is for the administrator.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

from loguru import logger
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from reconciler import http, model
from reconciler.keeper_errors import (
    AddressTaken,
    BadToken,
    Expired,
    Forbidden,
    IncompleteRead,
    KeeperError,
    LinkedToAnother,
    NotFound,
    Refused,
    SeatsExceeded,
    TeamNameTaken,
    Throttled,
    Unanswered,
    Unavailable,
    UnexpectedReply,
    UnknownNode,
)
from reconciler.model import KeeperTeam, KeeperUser, Listing
from reconciler.tasks import together

__all__ = [
    "AddressTaken",
    "BadToken",
    "Expired",
    "Forbidden",
    "IncompleteRead",
    "Keeper",
    "KeeperError",
    "LinkedToAnother",
    "NotFound",
    "Progress",
    "Refused",
    "SeatsExceeded",
    "TeamNameTaken",
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
#  2 RFC 7644 section 3.4.2.4: a list has totalResults, and pages by startIndex (from 1) and count.
#    Documented: at most 10,000 users a request. Keeper's clients ask for 500. Assumed: pages may be shorter.
#  3 Keeper's clients: ids of users are digits, of teams 22 characters of base64url, stable over approval.
#  4 Keeper's clients: externalId, names and groups may be missing; `groups` may name teams of other nodes.
#  5 Documented: POST takes externalId, emails and groups; a member of this node is linked and not refused.
#    userName and emails.value follow each other, so that PATCH needs userName only.
#  6 Keeper's clients: PATCH takes one path-less "replace" with dotted names and a boolean active, together
#    with "add" and "remove" of the path `groups`. Assumed: repeating the whole request changes nothing more.
#  7 Assumed: the reply to PATCH is any 2xx with the resource or with no body at all; to POST it is the resource.
#  8 Documented: 409 is a taken address, 428 means no free seat, 404 is what this node does not have.
#    Documented: two teams may share a name, unless the SCIM method has unique groups; assumed: then 409.
#  9 Assumed: a refusal explains itself as a SCIM error (`detail`), in Keeper's form (`message`, `error`), in
#    plain text, or not at all.
PAGE_SIZE = 500
"""Resources asked for in one page."""
MAX_LISTED = 100_000
"""More users or teams than this are no Keeper node; the bound keeps a nonsensical total from being paged."""
READS = 3
"""How often a list is read that does not add up."""
DETAIL_LENGTH = 200
"""Characters of a service's own words that an error repeats."""

_CORE = "urn:ietf:params:scim:schemas:core:2.0:"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,128}")
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


def _identifier(value: object) -> object:
    """An id in any form we may meet, as a string that is safe in a URL path."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise ValueError("no id of 1 to 128 letters, digits and _.-")
    return text


def _truth(value: object) -> object:
    """Keeper's documentation shows "true" and "false" as strings, its replies as booleans."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


_Id = Annotated[str, BeforeValidator(_identifier)]


class _Resource(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Ref(_Resource):
    value: _Id


class _Name(_Resource):
    givenName: str | None = None
    familyName: str | None = None


class _User(_Resource):
    # Without a known `active` nobody may conclude that somebody is locked or not, so it has no default.
    id: _Id
    userName: str
    active: Annotated[bool, BeforeValidator(_truth)]
    externalId: str | None = None
    displayName: str | None = None
    name: _Name | None = None
    groups: list[_Ref] | None = None


class _Team(_Resource):
    id: _Id
    externalId: str | None = None
    displayName: str | None = None
    members: list[_Ref] | None = None


class _Page(_Resource):
    totalResults: int
    Resources: list[Any] | None = None


def _user(document: object) -> KeeperUser:
    """One user resource; raises ValueError for what can't be one."""
    user = _User.model_validate(document)
    name = user.name or _Name()
    attributes = {
        model.USER_NAME: model.trimmed(user.userName),
        model.EXTERNAL_ID: model.normal(user.externalId),
        model.DISPLAY_NAME: model.normal(user.displayName),
        model.GIVEN_NAME: model.normal(name.givenName),
        model.FAMILY_NAME: model.normal(name.familyName),
    }
    if not attributes[model.USER_NAME]:
        raise ValueError("userName is empty")
    return KeeperUser(user.id, attributes, user.active, frozenset(ref.value for ref in user.groups or ()))


def _team(document: object) -> KeeperTeam:
    """One group resource; raises ValueError for what can't be one."""
    team = _Team.model_validate(document)
    attributes = {
        model.DISPLAY_NAME: model.normal(team.displayName),
        model.EXTERNAL_ID: model.normal(team.externalId),
    }
    return KeeperTeam(team.id, attributes, frozenset(ref.value for ref in team.members or ()))


_R = TypeVar("_R", KeeperUser, KeeperTeam)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[_R]):
    """What differs between users and teams."""

    path: str
    word: str
    schema: str
    read: Callable[[object], _R]
    taken: type[KeeperError]
    hint: str


_USERS = _Kind(
    "/Users",
    "user",
    _CORE + "User",
    _user,
    AddressTaken,
    "The address must be valid and its domain reserved for your enterprise (Admin Console or Keeper support), and "
    "teams must be of the same node. Correct what Keeper names; the next cycle tries again.",
)
_TEAMS = _Kind(
    "/Groups",
    "team",
    _CORE + "Group",
    _team,
    TeamNameTaken,
    "Keeper may refuse names of more than 185 characters. Correct what Keeper names; the next cycle tries again.",
)


@dataclass(frozen=True, slots=True)
class _About:
    """What a request is for, so that an error can say to whom what was not done; which class 404 and 409 are."""

    subject: str
    done: str
    missing: type[KeeperError] = UnknownNode
    taken: type[KeeperError] = Refused
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Read(Generic[_R]):
    """One reading of a whole list. `ended`: the service itself came to an end."""

    found: dict[str, _R]
    totals: frozenset[int]
    ended: bool

    @property
    def adds_up(self) -> bool:
        return self.ended and self.totals == {len(self.found)}


class Keeper:
    """The SCIM endpoint of one Keeper node; `http` has the SCIM URL as its base and `headers` as its credentials.

    Every method raises KeeperError. Reads and PATCH are repeated after a lost answer, POST never is.
    """

    def __init__(self, http: http.Http) -> None:
        self._http = http

    async def probe(self) -> None:
        """See that token and node are good; changes nothing."""
        about = _About("The SCIM endpoint", "checked")
        document = self._document(about, await self._send(about, "GET", "/ServiceProviderConfig"))
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
    ) -> Listing:
        """Everything in this node, memberships as users or teams show them.

        Known ids that the lists do not show are asked for one by one, since a list is no proof of absence: they
        are in the result, or `absent` after a 404. Likewise whatever a reading that did not add up showed: overlooked,
        it would get a second account or team. Nor is a list, which may be behind, proof that one of the `locked` was
        unlocked: they are asked for too. Raises IncompleteRead for a list that does not add up.
        """
        users, glimpsed_users = await self._list(_USERS, progress)
        teams, glimpsed_teams = await self._list(_TEAMS, progress)
        lost_users = sorted(glimpsed_users.union(known_users) - users.keys())
        unlocked = [id for id in sorted(locked) if id in users and users[id].active]
        lost_teams = sorted(glimpsed_teams.union(known_teams) - teams.keys())
        more_users = await together(self.user(id) for id in (*lost_users, *unlocked))
        more_teams = await together(self.team(id) for id in lost_teams)
        users |= {user.id: user for user in more_users if user}
        teams |= {team.id: team for team in more_teams if team}
        absent = frozenset(lost_users) - users.keys() | frozenset(lost_teams) - teams.keys()
        return Listing(*_joined(users, teams), absent)

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
            document["groups"] = _refs(teams)
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
                operations.append({"op": op, "path": "groups", "value": _refs(teams)})
        active = values.get("active")
        done = "changed" if active is None else "unlocked" if active else "locked"
        return await self._patch(_USERS, id, operations, done, unique=model.USER_NAME in values)

    async def queue_team(self, name: str, external_id: str) -> KeeperTeam:
        """Create a team, which Keeper puts into its Pending Queue until somebody approves it. Its id stays."""
        document = {"schemas": [_TEAMS.schema], "displayName": name, "externalId": external_id}
        return await self._create(_TEAMS, f"The team “{_printable(name)}”", "queued in Keeper", document)

    async def patch_team(self, id: str, values: Mapping[str, str]) -> KeeperTeam | None:
        """Set attributes of a team, by the names in `model.TEAM_ATTRIBUTES`; otherwise as `patch_user`."""
        operations = [{"op": "replace", "value": dict(values)}] if values else []
        return await self._patch(_TEAMS, id, operations, "changed", unique=model.DISPLAY_NAME in values)

    async def delete_team(self, id: str) -> None:
        """Delete a team, and with it what was shared with it; one that is gone already is no error."""
        about = _About(f"Keeper team {_printable(id)}", "deleted", NotFound, hint=_TEAMS.hint)
        try:
            await self._send(about, "DELETE", _path(_TEAMS, id))
        except NotFound:
            logger.debug("Keeper team {} was gone before it was deleted", id)

    async def _list(self, kind: _Kind[_R], progress: Progress | None) -> tuple[dict[str, _R], set[str]]:
        """A whole list that adds up, or that two readings in a row agree on; and the ids that the others showed."""
        before: _Read[_R] | None = None
        glimpsed: set[str] = set()
        for number in range(READS):
            # Pages of uneven length fall through a parallel reading, so only the first one is.
            read = await self._read(kind, progress, parallel=number == 0)
            if read.adds_up:
                return read.found, glimpsed
            if before and before.ended and read.ended and before.found.keys() == read.found.keys():
                logger.warning(
                    "Keeper announces {} {}s and lists {}, twice the same: going on with these",
                    _numbers(read.totals),
                    kind.word,
                    len(read.found),
                )
                return read.found, glimpsed
            before = read
            glimpsed |= read.found.keys()
        raise IncompleteRead(
            *_list_of(kind),
            problem=f"Keeper announces {_numbers(read.totals)} {kind.word}s and lists {len(read.found)}, which "
            f"did not add up in {READS} readings",
        )

    async def _read(self, kind: _Kind[_R], progress: Progress | None, *, parallel: bool) -> _Read[_R]:
        """Read a list once, until it is complete, a page is empty or a page brings nothing new."""
        found: dict[str, _R] = {}
        totals: set[int] = set()
        start, total, ended = 1, 0, True

        def take(page: _Page) -> bool:
            nonlocal start, total
            known, total = len(found), page.totalResults
            for offset, document in enumerate(page.Resources or ()):
                resource = _parsed(kind, document, start + offset)
                found[resource.id] = resource
            totals.add(total)
            start += len(page.Resources or ())
            if max(total, len(found)) > MAX_LISTED:
                raise IncompleteRead(*_list_of(kind), problem=f"Keeper shows more than {MAX_LISTED} {kind.word}s")
            if progress:
                progress(f"Keeper {kind.word}s", len(found), total)
            return len(found) > known

        more = take(await self._page(kind, 1, PAGE_SIZE))
        if parallel and more:
            size = start - 1
            for page in await together(self._page(kind, at, size) for at in range(start, total + 1, size)):
                take(page)
        while more and (start <= total or len(found) < total):
            page = await self._page(kind, start, PAGE_SIZE)
            more = take(page)
            # A page that repeats what is known already: the service does not page as it should.
            ended = more or not page.Resources
        return _Read(found, frozenset(totals), ended and (bool(found) or not total))

    async def _page(self, kind: _Kind[_R], start: int, count: int) -> _Page:
        about = _About(*_list_of(kind))
        reply = await self._send(about, "GET", kind.path, params={"startIndex": start, "count": count})
        document = self._document(about, reply)
        try:
            return _Page.model_validate(document)
        except ValidationError as error:
            problem = f"the reply is not a SCIM list ({_reason(error)})"
            raise UnexpectedReply(about.subject, about.done, problem=problem, status=reply.status) from None

    async def _get(self, kind: _Kind[_R], id: str) -> _R | None:
        about = _About(f"Keeper {kind.word} {_printable(id)}", "read", NotFound)
        try:
            reply = await self._send(about, "GET", _path(kind, id))
        except NotFound:
            return None
        return self._shown(kind, about, reply, id)

    async def _create(self, kind: _Kind[_R], subject: str, done: str, document: Mapping[str, Any]) -> _R:
        # With teams in the request, 404 may as well be about one of them: no reason to stop everything.
        missing = Refused if "groups" in document else UnknownNode
        about = _About(subject, done, missing, kind.taken, kind.hint)
        reply = await self._send(about, "POST", kind.path, json=document, repeatable=False)
        try:
            return self._shown(kind, about, reply)
        except UnexpectedReply as error:
            error.uncertain = True
            raise

    async def _patch(
        self, kind: _Kind[_R], id: str, operations: list[dict[str, Any]], done: str, *, unique: bool
    ) -> _R | None:
        if not operations:
            raise ValueError("a PATCH without anything to change")
        about = _About(
            f"Keeper {kind.word} {_printable(id)}", done, NotFound, kind.taken if unique else Refused, kind.hint
        )
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
        depends = {404: about.missing, 409: about.taken}
        outcome = depends.get(reply.status) or _OUTCOMES.get(reply.status, Refused)
        advice = about.hint if outcome is Refused else ""
        # A refusal is the answer to this attempt; one before it may have done what was asked.
        uncertain = reply.doubtful and method != "GET"
        raise outcome(
            about.subject, about.done, advice=advice, status=reply.status, detail=_detail(reply), uncertain=uncertain
        )

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
            problem = f"the reply does not show the {kind.word} ({_reason(error)})"
            raise UnexpectedReply(about.subject, about.done, problem=problem, status=reply.status) from None
        return resource


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
    elif isinstance(error, http.Redirected | http.BadReply):
        outcome = UnexpectedReply
    elif uncertain:
        outcome = Unanswered
    return outcome(
        about.subject, about.done, problem=error.problem, advice="" if uncertain else error.advice, uncertain=uncertain
    )


def _joined(
    users: Mapping[str, KeeperUser], teams: Mapping[str, KeeperTeam]
) -> tuple[dict[str, KeeperUser], dict[str, KeeperTeam]]:
    """Users and teams, each with the memberships that either side shows. Members outside the node stay as they are."""
    teams_of: dict[str, set[str]] = {}
    members_of: dict[str, set[str]] = {}
    for team in teams.values():
        for member in team.members:
            teams_of.setdefault(member, set()).add(team.id)
    for user in users.values():
        for id in user.teams:
            members_of.setdefault(id, set()).add(user.id)
    return (
        {id: replace(user, teams=user.teams | teams_of.get(id, set())) for id, user in users.items()},
        {id: replace(team, members=team.members | members_of.get(id, set())) for id, team in teams.items()},
    )


def _parsed(kind: _Kind[_R], document: object, position: int) -> _R:
    try:
        return kind.read(document)
    except ValueError as error:
        id = document.get("id") if isinstance(document, dict) else None
        named = f" with the id {_printable(str(id))}" if isinstance(id, str | int) else ""
        problem = f"the {kind.word} at position {position}{named} cannot be read ({_reason(error)})"
        raise IncompleteRead(*_list_of(kind), problem=problem) from None


def _reason(error: ValueError) -> str:
    """The first thing that is wrong with a document, without the values in it."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


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
