"""Reads the scope from JumpCloud: the application, who is bound to it, and their attributes. Changes nothing there.

Sources: JumpCloud's API descriptions (V1 and V2) and its support pages; where neither says, the comment says "assumed".
"""

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from reconciler.http import Http, HttpError, Reply
from reconciler.model import Application, Directory, Group, Status, User, normal

PAGE = 100
"""Rows a page; both versions of the API refuse more."""
SEARCH_IDS = 100

Progress = Callable[[str, int, int], None]
_ID = re.compile(r"[0-9a-f]{24}")
_APPLICATION_FIELDS = "name displayName displayLabel active organization"
_USER_FIELDS = "email firstname lastname displayname state suspended"
_T = TypeVar("_T")


class JumpCloudError(Exception):
    """JumpCloud gave no clear answer. Nothing was changed in Keeper for it; the text is for the administrator."""


class Unauthorized(JumpCloudError):
    """The credentials are not accepted, or not enough."""


class ApplicationNotFound(JumpCloudError):
    """No application, or none that may be used, goes by the configured id or label."""


class ApplicationAmbiguous(JumpCloudError):
    """Several applications have the configured label."""


class PersonAmbiguous(JumpCloudError):
    """Several users have one address."""


class IncompleteRead(JumpCloudError):
    """A list does not add up; nothing is concluded from it."""


class UnexpectedReply(JumpCloudError):
    """A reply that is not what JumpCloud documents."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Node(_Model):
    id: str = Field(pattern=r"^[0-9a-f]{24}$")
    type: str = ""


class _Edge(_Model):
    to: _Node


class _Bound(_Model):
    id: str = Field(pattern=r"^[0-9a-f]{24}$")
    paths: list[list[_Edge]] = []


class _Named(_Model):
    id: str = Field(pattern=r"^[0-9a-f]{24}$")
    name: str


class _User(_Model):
    id: str = Field(alias="_id", pattern=r"^[0-9a-f]{24}$")
    email: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    displayname: str | None = None
    state: str | None = None
    suspended: bool | None = None


class _App(_Model):
    id: str = Field(alias="_id", pattern=r"^[0-9a-f]{24}$")
    label: str | None = Field(default=None, alias="displayLabel")
    name: str | None = Field(default=None, alias="displayName")
    active: bool | None = None
    organization: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Who is bound to the application: for each user the groups that lead there and whether there is a direct path."""

    organization: str
    application: Application
    groups: Mapping[str, Group]
    users: Mapping[str, tuple[bool, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Paths:
    """How one user is bound to the application."""

    bound: bool
    direct: bool
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Person:
    """One user, with how they are bound."""

    user: User


class ServiceAccount:
    """Headers of a service account: an access token, fetched when needed and renewed before it expires."""

    def __init__(self, oauth: Http, organization: str | None) -> None:
        self._oauth = oauth
        self._organization = organization
        self._token = SecretStr("")
        self._until = 0.0
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """Fetch another token before the next request: JumpCloud has ended this one early."""
        self._until = 0.0

    async def headers(self) -> Mapping[str, str]:
        """The headers of a request to the API."""
        async with self._lock:
            if time.monotonic() >= self._until:
                await self._renew()
        extra = {"x-org-id": self._organization} if self._organization else {}
        return {"Authorization": f"Bearer {self._token.get_secret_value()}", "Accept": "application/json", **extra}

    async def _renew(self) -> None:
        form = {"grant_type": "client_credentials", "scope": "api"}
        reply = await self._oauth.request("POST", "/oauth2/token", form=form, repeatable=True)
        if reply.status != 200:
            raise Unauthorized(
                f"JumpCloud does not give the service account a token (HTTP {reply.status}); nothing was changed in "
                "Keeper. Check jumpcloud.client_id and client_secret: secrets of service accounts expire."
            )
        document = reply.json()
        if not isinstance(document, dict) or not isinstance(document.get("access_token"), str):
            raise UnexpectedReply("JumpCloud's token endpoint answered without a token; nothing was changed.")
        lasts = document.get("expires_in")
        self._token = SecretStr(document["access_token"])
        self._until = time.monotonic() + max(0, (lasts if isinstance(lasts, int) else 600) - 60)


def login_headers(client_id: str, secret: SecretStr) -> dict[str, str]:
    """The headers of the request for a service account's token (RFC 6749 section 2.3.1)."""
    pair = f"{client_id}:{secret.get_secret_value()}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}", "Accept": "application/json"}


def key_headers(key: SecretStr, organization: str | None) -> Callable[[], Awaitable[Mapping[str, str]]]:
    """The headers of an administrator's API key; `x-org-id` is for administrators of several organisations only."""

    async def headers() -> Mapping[str, str]:
        extra = {"x-org-id": organization} if organization else {}
        return {"x-api-key": key.get_secret_value(), "Accept": "application/json", **extra}

    return headers


class JumpCloud:
    """The reader of one application's scope. Every method raises JumpCloudError where there is no clear answer."""

    def __init__(self, http: Http, application: str, forget_token: Callable[[], None] | None = None) -> None:
        self._http = http
        self._forget_token = forget_token
        self._wanted = application
        self._found: tuple[str, Application] | None = None

    # -- the application --------------------------------------------------------------------------------------------

    async def application(self) -> tuple[str, Application]:
        """The organisation's id and the application, by its id or by the label that only one has.

        Asks for named fields of the list only: a single application's record holds the SAML signing key.
        """
        if self._found is None:
            self._found = await self._find_application()
        return self._found

    async def _find_application(self) -> tuple[str, Application]:
        by_id = {"filter": f"_id:$eq:{self._wanted}"} if _ID.fullmatch(self._wanted) else {}
        rows = await self._v1("/api/applications", {"fields": _APPLICATION_FIELDS, **by_id}, None, "applications")
        found = [_parsed(_App, row, "application") for row in rows.values()]
        named = [app for app in found if self._wanted in (app.id, app.label) or app.name == self._wanted]
        exact = [app for app in named if self._wanted in (app.id, app.label)] or named
        if not exact:
            labels = ", ".join(sorted(app.label or app.name or app.id for app in found)[:20]) or "none at all"
            raise ApplicationNotFound(
                f"JumpCloud has no application with the id or label {self._wanted!r} (jumpcloud.application); "
                f"there are: {labels}. Nothing was changed in Keeper."
            )
        if len(exact) > 1:
            ids = ", ".join(sorted(app.id for app in exact))
            raise ApplicationAmbiguous(
                f"{len(exact)} JumpCloud applications have the label {self._wanted!r}: {ids}. Put the id of the right "
                "one into jumpcloud.application. Nothing was changed in Keeper."
            )
        app = exact[0]
        if app.active is False:
            raise ApplicationNotFound(
                f"The JumpCloud application {self._wanted!r} is not active, so its scope says nothing. Activate it in "
                "JumpCloud. Nothing was changed in Keeper."
            )
        return app.organization or await self._organization(), Application(app.id, normal(app.label or app.name))

    async def _organization(self) -> str:
        rows = await self._v1("/api/organizations", {}, None, "organisations")
        if len(rows) != 1:
            raise UnexpectedReply(
                f"JumpCloud names {len(rows)} organisations for these credentials; set jumpcloud.organization to the "
                "id of the one that holds the application. Nothing was changed in Keeper."
            )
        return next(iter(rows))

    # -- the scope --------------------------------------------------------------------------------------------------

    async def read_scope(self, progress: Progress | None) -> Scope:
        """Everybody bound to the application, with the groups that lead there: one list, no request per group."""
        organization, application = await self.application()
        base = f"/api/v2/applications/{application.id}"
        bound, groups = await asyncio.gather(
            self._v2(f"{base}/users", {}, progress, "people in scope"), self.groups_in_scope()
        )
        users: dict[str, tuple[bool, frozenset[str]]] = {}
        for row in bound.values():
            found = _parsed(_Bound, row, "bound user")
            users[found.id] = _paths_of(found, groups.keys())
        return Scope(organization, application, groups, users)

    async def groups_in_scope(self) -> dict[str, Group]:
        """The groups bound to the application, by id; names come from the list of groups."""
        _, application = await self.application()
        rows = await self._v2(f"/api/v2/applications/{application.id}/usergroups", {}, None, "groups in scope")
        ids = {_parsed(_Bound, row, "bound group").id for row in rows.values()}
        if not ids:
            return {}
        for _ in range(2):
            every = await self._v2("/api/v2/usergroups", {"fields": "id,name", "sort": "name"}, None, "groups")
            names = {group.id: group for group in (_parsed(_Named, row, "group") for row in every.values())}
            if ids <= names.keys():
                return {group_id: Group(group_id, normal(names[group_id].name)) for group_id in sorted(ids)}
        raise IncompleteRead(
            f"JumpCloud lists {len(ids - names.keys())} groups in scope whose names it does not list; nothing was "
            "changed in Keeper. If they were just deleted, the next cycle will do."
        )

    async def read_directory(self, scope: Scope, also: Collection[str], progress: Progress | None) -> Directory:
        """The users in scope and those in `also`, with attributes; whom JumpCloud does not know is left out."""
        wanted = set(scope.users) | {user_id for user_id in also if _ID.fullmatch(user_id)}
        rows = await self._users(wanted, progress) if wanted else {}
        users = {}
        for user_id in sorted(wanted & rows.keys()):
            direct, groups = scope.users.get(user_id, (False, frozenset()))
            users[user_id] = replace(_user(rows[user_id]), direct=direct, groups=groups)
        return Directory(scope.organization, scope.application, users, scope.groups)

    async def _users(self, wanted: set[str], progress: Progress | None) -> dict[str, _User]:
        """The cheaper way: the whole list, or searches for just these ids."""
        parameters = {"fields": _USER_FIELDS, "sort": "_id"}
        first = await self._get("/api/systemusers", {**parameters, "limit": PAGE, "skip": 0})
        _, total = _envelope(first, "users")
        searches, pages = -(-len(wanted) // SEARCH_IDS), -(-total // PAGE)
        if searches < pages - 1:
            rows = await self._search(wanted, progress)
            lacking = wanted - rows.keys()
            return {**rows, **await self._search(lacking, None)} if lacking else rows
        every = await self._v1("/api/systemusers", parameters, progress, "users")
        return {user_id: _parsed(_User, row, "user") for user_id, row in every.items() if user_id in wanted}

    async def _search(self, wanted: Iterable[str], progress: Progress | None) -> dict[str, _User]:
        ids = sorted(wanted)
        chunks = [ids[start : start + SEARCH_IDS] for start in range(0, len(ids), SEARCH_IDS)]
        found: dict[str, _User] = {}

        async def one(chunk: list[str]) -> None:
            body = {
                "filter": {"or": [{"_id": user_id} for user_id in chunk]},
                "fields": _USER_FIELDS,
                "sort": "_id",
                "limit": PAGE,
                "skip": 0,
            }
            reply = await self._send("POST", "/api/search/systemusers", {"limit": PAGE, "skip": 0}, body)
            rows, _ = _envelope(_document(reply), "users")
            for row in rows:
                user = _parsed(_User, row, "user")
                if user.id in chunk:
                    found[user.id] = user
            if progress:
                progress("users", len(found), len(ids))

        await _together(one(chunk) for chunk in chunks)
        return found

    # -- one person -------------------------------------------------------------------------------------------------

    async def person(self, *, id: str = "", email: str = "") -> Person | None:
        """One user by id or by address, with how they are bound; None where there is nobody."""
        user = await self._one(id) if id else await self._by_address(email)
        if user is None:
            return None
        groups = await self.groups_in_scope()
        paths = await self.application_paths(user.id)
        return Person(replace(_user(user), direct=paths.direct, groups=paths.groups & groups.keys()))

    async def _one(self, user_id: str) -> _User | None:
        reply = await self._send("GET", f"/api/systemusers/{user_id}", {"fields": _USER_FIELDS}, None, missing=True)
        if reply.status == 404:
            # An id that is not found counts only while the credentials still see the application.
            self._found = None
            await self.application()
            return None
        user = _parsed(_User, _document(reply), "user")
        if user.id != user_id:
            raise UnexpectedReply(
                f"JumpCloud answered with another user than {user_id}. Nothing was changed in Keeper."
            )
        return user

    async def _by_address(self, email: str) -> _User | None:
        for wanted in dict.fromkeys((email, email.lower())):
            parameters = {"fields": _USER_FIELDS, "filter": f"email:$eq:{wanted}"}
            rows = await self._v1("/api/systemusers", parameters, None, "users")
            if len(rows) > 1:
                raise PersonAmbiguous(f"{len(rows)} JumpCloud users have the address {email}. Nothing was changed.")
            if rows:
                return _parsed(_User, next(iter(rows.values())), "user")
        return None

    async def status_of(self, user_id: str, /) -> Status | None:
        """The status in the user's own record; None where JumpCloud says that there is no such user."""
        user = await self._one(user_id)
        return _status(user) if user is not None else None

    async def application_paths(self, user_id: str, /) -> Paths:
        """How the user is bound to the application, by the user's own list of applications."""
        _, application = await self.application()
        rows = await self._v2(f"/api/v2/users/{user_id}/applications", {}, None, "applications of a user")
        row = rows.get(application.id)
        if row is None:
            return Paths(False, False, frozenset())
        found = _parsed(_Bound, row, "application")
        groups = {edge.to.id for path in found.paths for edge in path if edge.to.type == "user_group"}
        direct = any(all(edge.to.type != "user_group" for edge in path) for path in found.paths)
        return Paths(True, direct or not groups, frozenset(groups))

    async def groups_of(self, user_id: str, /) -> frozenset[str]:
        """The groups that the user is a member of."""
        rows = await self._v2(f"/api/v2/users/{user_id}/memberof", {}, None, "groups of a user")
        return frozenset(_parsed(_Bound, row, "group").id for row in rows.values())

    # -- pages ------------------------------------------------------------------------------------------------------

    async def _v1(
        self, path: str, parameters: Mapping[str, Any], progress: Progress | None, what: str
    ) -> dict[str, Any]:
        ordered = {**parameters, "sort": "_id"}

        async def page(skip: int) -> tuple[list[Any], int | None]:
            return _envelope(await self._get(path, {**ordered, "limit": PAGE, "skip": skip}), what)

        return await self._all(page, "_id", progress, what)

    async def _v2(
        self, path: str, parameters: Mapping[str, Any], progress: Progress | None, what: str
    ) -> dict[str, Any]:
        async def page(skip: int) -> tuple[list[Any], int | None]:
            reply = await self._send("GET", path, {**parameters, "limit": PAGE, "skip": skip}, None)
            rows = _document(reply)
            if not isinstance(rows, list):
                raise UnexpectedReply(f"JumpCloud's list of {what} is no list. Nothing was changed in Keeper.")
            total = reply.headers.get("x-total-count", "")
            return rows, int(total) if total.isdigit() else None

        return await self._all(page, "id", progress, what)

    async def _all(
        self,
        page: Callable[[int], Awaitable[tuple[list[Any], int | None]]],
        key: str,
        progress: Progress | None,
        what: str,
    ) -> dict[str, Any]:
        """The whole list by id. One whose ids do not add up to its total is read again; two equal readings count."""
        before: set[str] | None = None
        for _ in range(4):
            rows, total = await self._reading(page, key, progress, what)
            if (total is None or len(rows) == total) or rows.keys() == before:
                return rows
            before = set(rows)
        raise IncompleteRead(
            f"JumpCloud's list of {what} does not add up: {len(rows)} read, {total} announced, and no two readings "
            "agree. Nothing was changed in Keeper; the next cycle reads again."
        )

    async def _reading(
        self,
        page: Callable[[int], Awaitable[tuple[list[Any], int | None]]],
        key: str,
        progress: Progress | None,
        what: str,
    ) -> tuple[dict[str, Any], int | None]:
        found: dict[str, Any] = {}

        def take(rows: list[Any]) -> None:
            for row in rows:
                if row is None:
                    continue  # a deleted object leaves a null behind and shortens its page
                if not isinstance(row, dict) or not isinstance(row.get(key), str) or not _ID.fullmatch(row[key]):
                    raise UnexpectedReply(f"JumpCloud's list of {what} has a row without an id. Nothing was changed.")
                found[row[key]] = row
            if progress:
                progress(what, len(found), max(total or 0, len(found)))

        first, total = await page(0)
        take(first)
        if total is not None:

            async def one(skip: int) -> None:
                rows, _ = await page(skip)
                take(rows)

            await _together(one(skip) for skip in range(PAGE, total, PAGE))
            return found, total
        skip, rows = 0, first
        while rows:
            skip += PAGE
            rows, _ = await page(skip)
            take(rows)
        return found, None

    async def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        return _document(await self._send("GET", path, parameters, None))

    async def _reply(self, method: str, path: str, parameters: Mapping[str, Any], body: Any) -> Reply:
        try:
            # The search is a POST that changes nothing.
            return await self._http.request(
                method, path, params={k: str(v) for k, v in parameters.items()}, json=body, repeatable=True
            )
        except HttpError as error:
            raise JumpCloudError(f"{error} Nothing was changed in Keeper.") from None

    async def _send(
        self, method: str, path: str, parameters: Mapping[str, Any], body: Any, *, missing: bool = False
    ) -> Reply:
        reply = await self._reply(method, path, parameters, body)
        if reply.status == 401 and self._forget_token is not None:
            self._forget_token()
            reply = await self._reply(method, path, parameters, body)
        if reply.status in (200, 201) or (missing and reply.status == 404):
            return reply
        if reply.status in (401, 403):
            raise Unauthorized(
                f"JumpCloud does not accept the credentials for {path} (HTTP {reply.status}: {_words(reply)}). Nothing "
                "was changed in Keeper. Check jumpcloud.api_key (a key belongs to one administrator and changes when "
                "renewed), and jumpcloud.organization for administrators of several; under systemd restart the service "
                "after a change."
            )
        raise UnexpectedReply(
            f"JumpCloud answered {method} {path} with HTTP {reply.status}: {_words(reply)}. "
            "Nothing was changed in Keeper."
        )


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first failure ends the others and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _document(reply: Reply) -> Any:
    try:
        return reply.json()
    except HttpError as error:
        raise UnexpectedReply(f"{error} Nothing was changed in Keeper.") from None


def _envelope(document: Any, what: str) -> tuple[list[Any], int]:
    if not isinstance(document, dict):
        raise UnexpectedReply(f"JumpCloud's list of {what} has no envelope. Nothing was changed in Keeper.")
    rows, total = document.get("results"), document.get("totalCount")
    if not isinstance(rows, list) or not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise UnexpectedReply(f"JumpCloud's list of {what} lacks its rows or its total. Nothing was changed.")
    return rows, total


_M = TypeVar("_M", bound=BaseModel)


def _parsed(model: type[_M], row: Any, what: str) -> _M:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"])
        known = row.get("_id", row.get("id", "")) if isinstance(row, dict) else ""
        who = f" {known}" if isinstance(known, str) and _ID.fullmatch(known) else ""
        raise UnexpectedReply(
            f"JumpCloud's record of the {what}{who} can't be read (at {where}). Nothing was changed in Keeper."
        ) from None


def _paths_of(found: _Bound, bound_groups: Collection[str]) -> tuple[bool, frozenset[str]]:
    """A path of the user alone is a direct binding; a group in a path before the user is a membership."""
    direct, groups = not found.paths, set()
    for path in found.paths:
        through = {edge.to.id for edge in path if edge.to.type == "user_group"} & set(bound_groups)
        groups |= through
        # A path that leads through nothing that is bound counts as direct: never as a lost binding.
        direct = direct or not through
    return direct, frozenset(groups)


def _status(user: _User) -> Status:
    if user.suspended or user.state == "SUSPENDED":
        return Status.SUSPENDED
    if user.state in (None, "", "ACTIVATED"):
        return Status.ACTIVE
    return Status.STAGED if user.state == "STAGED" else Status.UNKNOWN


def _user(row: _User) -> User:
    return User(
        row.id,
        _address(row.email),
        _status(row),
        normal(row.displayname),
        normal(row.firstname),
        normal(row.lastname),
    )


def _address(text: str | None) -> str:
    address = normal(text)
    usable = re.fullmatch(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+", address)
    return address if usable and len(address) <= 254 else ""


def _words(reply: Reply) -> str:
    """JumpCloud's own words, if they are any."""
    try:
        document = reply.json()
    except HttpError:
        return "no words"
    text = document.get("message") or document.get("error") if isinstance(document, dict) else None
    return "".join(c for c in str(text or "no words") if c.isprintable())[:200]
