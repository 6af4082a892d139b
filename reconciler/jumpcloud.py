"""Reads the scope from JumpCloud: the application, who is bound to it, and their attributes. Changes nothing there.

Sources: JumpCloud's API descriptions (V1 and V2) and its support pages; where neither says, the comment says
"assumed". The cost is a request per hundred rows: none per group, and none per user but for the point reads.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.http import Http
from reconciler.jumpcloud_access import ServiceAccount, key_headers, login_headers
from reconciler.jumpcloud_lists import PAGE, Lists, Page, Progress, envelope, whole
from reconciler.jumpcloud_replies import (
    ApplicationAmbiguous,
    ApplicationInactive,
    ApplicationNotFound,
    ApplicationRow,
    GraphRow,
    GroupRow,
    IncompleteRead,
    JumpCloudError,
    PersonAmbiguous,
    Row,
    Unauthorized,
    Unavailable,
    UnexpectedReply,
    UserRow,
    Ways,
    checked_id,
    document,
    parsed,
    usable_address,
)
from reconciler.model import Application, Directory, Group, Status, User, is_jumpcloud_id, normal
from reconciler.tasks import siblings, together

__all__ = [
    "ApplicationAmbiguous",
    "ApplicationInactive",
    "ApplicationNotFound",
    "IncompleteRead",
    "JumpCloud",
    "JumpCloudError",
    "Paths",
    "Person",
    "PersonAmbiguous",
    "Progress",
    "Scope",
    "ServiceAccount",
    "Unauthorized",
    "Unavailable",
    "UnexpectedReply",
    "Ways",
    "key_headers",
    "login_headers",
]

NEAR = 3
"""How many labels an error suggests."""

_USERS = {"fields": UserRow.FIELDS}
_SUSPENDED = {"filter[or][0]": "state:$eq:SUSPENDED", "filter[or][1]": "suspended:$eq:true"}
_REFUSED = (400, 403, 404)
"""Statuses with which a filter or a search is refused, not the reader."""
_NOWHERE = Ways(direct=False, groups=frozenset())


@dataclass(frozen=True, slots=True)
class Scope:
    """Who is bound to the application: how each user is, and the groups."""

    organization: str
    application: Application
    users: Mapping[str, Ways]
    groups: Mapping[str, Group]


@dataclass(frozen=True, slots=True)
class Paths:
    """How one user is bound to the application, by the user's own list of applications."""

    bound: bool
    direct: bool
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Person:
    """One user by point reads: `groups` are those that lead from the application to the user, `member_of` all."""

    user: User
    groups: Mapping[str, Group]
    member_of: frozenset[str]


class JumpCloud:
    """The reader of one application's scope.

    `application` is its id, or the label that only one has. `forget_token` is that of the service account whose headers
    `http` sends, if it does. Every method raises JumpCloudError where there is no clear answer.
    """

    def __init__(self, http: Http, application: str, forget_token: Callable[[], None] | None = None) -> None:
        self._lists = Lists(http, forget_token)
        self._wanted = normal(application)
        self._known: tuple[str, Application] | None = None
        self._search_works = True

    # -- the application ----------------------------------------------------------------------------------------------

    async def application(self) -> tuple[str, Application]:
        """The organisation's id and the application, read anew. Raises ApplicationNotFound, -Ambiguous, -Inactive.

        Asks the list for named fields only: the record of a single application holds the SAML signing key.
        """
        by_id = await self._applications({"filter": f"_id:$eq:{self._wanted}"}) if is_jumpcloud_id(self._wanted) else {}
        found = [row for row in by_id.values() if row.id == self._wanted]
        if not found:
            rows = await self._applications({})
            found = [row for row in rows.values() if row.label == self._wanted]
            if not found:
                raise _not_found(self._wanted, {row.label for row in rows.values()})
        if len(found) > 1:
            raise ApplicationAmbiguous(self._wanted, tuple(sorted(row.id for row in found)))
        self._known = await self._usable(found[0])
        return self._known

    async def _application(self) -> tuple[str, Application]:
        """The application as last read."""
        return self._known or await self.application()

    async def _still_there(self) -> None:
        """Raises unless the application can be read now: then a 404, or a list without rows, speaks for itself."""
        _, application = await self._application()
        rows = await self._applications({"filter": f"_id:$eq:{application.id}"})
        if application.id not in rows:
            raise IncompleteRead(f"the JumpCloud application {application.id}, there at first, is gone")
        await self._usable(rows[application.id])

    async def _applications(self, params: Mapping[str, str]) -> dict[str, ApplicationRow]:
        fields = {"fields": ApplicationRow.FIELDS, **params}

        async def page(skip: int) -> Page[ApplicationRow]:
            return await self._lists.v1("/api/applications", ApplicationRow, fields, skip, "applications")

        return await whole(page, lambda row: row, "applications")

    async def _usable(self, row: ApplicationRow) -> tuple[str, Application]:
        application = Application(row.id, row.label)
        if row.active is False:
            raise ApplicationInactive(application)
        return row.organization or await self._organization(), application

    async def _organization(self) -> str:
        """The organisation of the credentials, for applications that do not name theirs."""

        async def page(skip: int) -> Page[Row]:
            return await self._lists.v1("/api/organizations", Row, {"fields": "_id"}, skip, "organisations")

        found = await whole(page, lambda row: row.id, "organisations")
        if len(found) != 1:
            raise UnexpectedReply(
                f"JumpCloud names {len(found)} organisations for these credentials",
                "Put the id of the one with the application into jumpcloud.organization.",
            )
        return next(iter(found))

    # -- the scope ----------------------------------------------------------------------------------------------------

    async def read_scope(self, progress: Progress | None) -> Scope:
        """Everybody bound to the application, with the groups that lead there, and all groups bound to it.

        A group on a path is bound, whether the application's list of groups has it or not: where the two disagree they
        are read again, and then both believed, since a membership must not be lost for it. A group without a name is
        read again, then IncompleteRead. Nobody in scope is an answer only while the application is there.
        """
        organization, application = await self.application()
        for last in (False, True):
            async with siblings() as group:
                users_read = group.create_task(self._users_in_scope(application, progress))
                groups_read = group.create_task(self._bound_groups(application))
            users, bound = users_read.result(), groups_read.result()
            through = frozenset[str]().union(*(ways.groups for ways in users.values()))
            groups = await self._named(bound | through)
            unnamed = (bound | through) - groups.keys()
            if not unnamed and through <= bound:
                break
            if last and unnamed:
                raise _without_name(unnamed)
        if not users:
            await self._still_there()
        return Scope(organization, application, users, groups)

    async def groups_in_scope(self) -> dict[str, Group]:
        """The groups in the application's own list of groups, by id, with their names."""
        _, application = await self._application()
        for _ in range(2):
            bound = await self._bound_groups(application)
            groups = await self._named(bound)
            if bound <= groups.keys():
                return groups
        raise _without_name(bound - groups.keys())

    async def _users_in_scope(self, application: Application, progress: Progress | None) -> dict[str, Ways]:
        """Direct and indirect bindings come in one list, each with its paths: no request per group."""
        path = f"/api/v2/applications/{application.id}/users"
        shared: dict[Ways, Ways] = {}

        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, "users in scope")

        def keep(row: GraphRow) -> Ways:
            ways = _of_type(row, "user").ways()
            return shared.setdefault(ways, ways)  # few of them differ

        return await whole(page, keep, "users in scope", merge=lambda old, new: old | new, progress=progress)

    async def _bound_groups(self, application: Application) -> frozenset[str]:
        path = f"/api/v2/applications/{application.id}/usergroups"
        return await self._group_ids(path, "groups in scope")

    async def _group_ids(self, path: str, what: str) -> frozenset[str]:
        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, what)

        return frozenset(await whole(page, lambda row: _of_type(row, "user_group").id, what))

    async def _named(self, ids: Collection[str]) -> dict[str, Group]:
        """Those of these groups that have a name. The list takes no filter by id, so it is read whole."""
        if not ids:
            return {}

        async def page(skip: int) -> Page[GroupRow]:
            params = {"fields": "id,name", "sort": "name"}
            return await self._lists.v2("/api/v2/usergroups", GroupRow, params, skip, "groups")

        groups = await whole(page, lambda row: row.group() if row.id in ids else None, "groups")
        return dict(sorted(groups.items()))

    # -- the users' attributes ----------------------------------------------------------------------------------------

    async def read_directory(self, scope: Scope, also: Collection[str], progress: Progress | None) -> Directory:
        """Everybody in scope and those in `also`, with their attributes; what can't be a JumpCloud id is ignored.

        Whom the users' list lacks is asked for once more, then left out: deleted, and still in the graph.
        """
        wanted = frozenset(scope.users).union(user_id for user_id in also if is_jumpcloud_id(user_id))
        found = await self._attributes(wanted, scope, progress) if wanted else {}
        users = {}
        for user_id in sorted(found):
            ways = scope.users.get(user_id, _NOWHERE)
            users[user_id] = replace(found[user_id], direct=ways.direct, groups=ways.groups)
        return Directory(scope.organization, scope.application, users, scope.groups)

    async def _attributes(self, wanted: frozenset[str], scope: Scope, progress: Progress | None) -> dict[str, User]:
        """The cheaper way, by requests: the rest of the whole list, or searches for just these ids."""
        first = await self._page_of_users(0)
        if scope.users and not first.length:
            raise IncompleteRead(f"JumpCloud has {len(scope.users)} users in scope, and its list of users is empty")
        found = {row.id: row.user() for row in first.rows if row.id in wanted}
        lacking = wanted - found.keys()
        if not lacking:
            return found
        witness = first.rows[-1].id if first.rows else ""
        if first.total is not None and -(-len(lacking) // PAGE) < -(-first.total // PAGE) - 1:
            searched = await self._search_twice(lacking, witness, progress)
            if searched is not None:
                return found | searched
        found |= await self._listed(wanted, progress, first)
        lacking = wanted - found.keys()
        if lacking and witness:
            again = await self._search(lacking, witness, None)
            if again is None and not lacking.isdisjoint(scope.users):
                again = await self._listed(lacking, None, None)
            found |= again or {}
        return found

    async def _page_of_users(self, skip: int) -> Page[UserRow]:
        return await self._lists.v1("/api/systemusers", UserRow, _USERS, skip, "users")

    async def _listed(
        self, wanted: Collection[str], progress: Progress | None, first: Page[UserRow] | None
    ) -> dict[str, User]:
        def keep(row: UserRow) -> User | None:
            return row.user() if row.id in wanted else None

        return await whole(self._page_of_users, keep, "users", progress=progress, first=first)

    async def _search_twice(
        self, wanted: frozenset[str], witness: str, progress: Progress | None
    ) -> dict[str, User] | None:
        """Searches for these ids, and again for whom the first ones lack; None where they are not to be relied on."""
        found = await self._search(wanted, "", progress)
        lacking = wanted - found.keys() if found is not None else frozenset()
        if found is None or not lacking:
            return found
        # A search that finds now whom it lacked before, or that does not find the witness, has missed people.
        return found if await self._search(lacking, witness, None) == {} else None

    async def _search(self, wanted: Collection[str], witness: str, progress: Progress | None) -> dict[str, User] | None:
        """Users by their ids, a hundred a request; None where the search does not do as it is asked.

        That ids may be joined by "or" is described for other fields only; so an answer is believed only if it adds up,
        names nobody else and has the `witness`, a user of whom it is known that there is one (empty: without).
        """
        ids = sorted(wanted)
        size = PAGE - 1 if witness else PAGE
        chunks = [[*ids[start : start + size], *filter(None, [witness])] for start in range(0, len(ids), size)]
        found: dict[str, User] = {}

        async def one(chunk: list[str]) -> None:
            if not self._search_works:
                return
            expressions = [{"_id": user_id} for user_id in chunk]
            page = await self._searched({"filter": {"or": expressions}, "sort": "_id"})
            seen = {row.id for row in page.rows} if page else set()
            odd = page is None or page.total not in (None, len(seen)) or not seen <= set(chunk)
            if odd or (witness and witness not in seen):
                self._search_works = False
                return
            found.update({row.id: row.user() for row in page.rows if row.id in wanted} if page else {})
            if progress:
                progress("users", len(found), len(ids))

        await together(map(one, chunks))
        return found if self._search_works else None

    async def _searched(self, what: Mapping[str, object]) -> Page[UserRow] | None:
        """The first page of a search, None where JumpCloud refuses it.

        Paging stands in the body by the API description, in the query by others: JumpCloud's own module sends both.
        """
        paging = {"limit": PAGE, "skip": 0}
        body = {**what, "fields": UserRow.FIELDS, **paging}
        reply = await self._lists.send("POST", "/api/search/systemusers", paging, body=body, also=(400, 404))
        return envelope(reply, UserRow, "users found") if reply.status == 200 else None

    # -- one person ---------------------------------------------------------------------------------------------------

    async def person(self, *, id: str | None = None, email: str | None = None) -> Person | None:
        """One user by id or by address; None where nobody has it. Raises PersonAmbiguous for an address of several."""
        row = await (self._user(id) if id is not None else self._by_address(email or ""))
        if row is None:
            return None
        async with siblings() as group:
            paths_read = group.create_task(self.application_paths(row.id))
            groups_read = group.create_task(self.groups_of(row.id))
        paths = paths_read.result()
        names = await together(self._group(group_id) for group_id in sorted(paths.groups))
        user = replace(row.user(), direct=paths.direct, groups=paths.groups)
        return Person(user, {named.id: named for named in names}, groups_read.result())

    async def _user(self, user_id: str) -> UserRow | None:
        """A user's own record; None where it is gone, which only counts while the application can still be read."""
        path = f"/api/systemusers/{checked_id(user_id)}"
        reply = await self._lists.send("GET", path, _USERS, also=(404,))
        if reply.status == 404:
            await self._still_there()
            return None
        row = parsed(UserRow, document(reply), "a user")
        if row.id != user_id:
            raise UnexpectedReply(f"JumpCloud answered with another user than {user_id}")
        return row

    async def _group(self, group_id: str) -> Group:
        reply = await self._lists.send("GET", f"/api/v2/usergroups/{group_id}", {}, also=(404,))
        group = parsed(GroupRow, document(reply), "a group").group() if reply.status == 200 else None
        if group is None or group.id != group_id:
            raise _without_name([group_id])
        return group

    async def _by_address(self, email: str) -> UserRow | None:
        """The user with this address: by a filter, which may heed the case; then by a text search; then in the list.

        The text search is documented to find parts of an address, and assumed not to heed the case.
        """
        address = usable_address(email)
        if not address:
            return None
        filtered = {**_USERS, "filter": f"email:$eq:{address}"}
        page = await self._lists.v1("/api/systemusers", UserRow, filtered, 0, "users")
        rows = [row for row in page.rows if row.has_address(address)]
        if not rows:
            terms = {"searchTerm": address, "fields": ["email"]}
            searched = await self._searched({"searchFilter": terms, "sort": "_id"})
            if searched is None or searched.total not in (None, len(searched.rows)):
                every = await whole(self._page_of_users, lambda row: row if row.has_address(address) else None, "users")
                rows = list(every.values())
            else:
                rows = [row for row in searched.rows if row.has_address(address)]
        if len(rows) > 1:
            raise PersonAmbiguous(address, tuple(sorted(row.id for row in rows)))
        return rows[0] if rows else None

    # -- many people, for the evidence of one operation or of the leavers ----------------------------------------------

    async def suspended(self, active: Collection[str], witness: Collection[str]) -> frozenset[str]:
        """The ids of users that JumpCloud says are suspended; of others than `active` it may say nothing.

        One filter by state is asked for, and each row's own state decides, since that V1 lists heed filters on these
        fields is assumed. The filter is not believed where it is refused, where it needs more pages than a search of
        the ids in `active` would, or where it lacks everybody in `witness` (people who were suspended when last read)
        though the own record of one of them still says so. Then the ids in `active` are searched for.
        """
        pages = max(1, -(-len(active) // PAGE))
        found = await self._filtered_by_suspension(pages)
        if found is not None and not found.isdisjoint(witness):
            return found
        if found is not None:
            probe = min(filter(is_jumpcloud_id, witness), default=None)
            if probe is None or await self.status_of(probe) is not Status.SUSPENDED:
                return found
        wanted = frozenset(filter(is_jumpcloud_id, active))
        users = await self._search(wanted, "", None)
        if users is None:
            users = await self._listed(wanted, None, None)
        return frozenset(user.id for user in users.values() if user.status is Status.SUSPENDED)

    async def _filtered_by_suspension(self, most: int) -> frozenset[str] | None:
        """Whom the filter finds, read to the empty page; None where it is refused or needs more pages than `most`."""
        params = {**_USERS, **_SUSPENDED, "sort": "_id", "limit": PAGE}
        found: set[str] = set()
        skip = 0
        for _ in range(most + 1):
            reply = await self._lists.send("GET", "/api/systemusers", {**params, "skip": skip}, also=_REFUSED)
            if reply.status != 200:
                return None
            page = envelope(reply, UserRow, "suspended users")
            if not page.length:
                return frozenset(found)
            if (page.total or 0) > most * PAGE:
                return None
            found.update(row.id for row in page.rows if row.status is Status.SUSPENDED)
            skip += page.length
        return None

    async def statuses(self, ids: Collection[str]) -> Mapping[str, Status]:
        """The status of each of these users, by searches of a hundred ids; who is gone is missing.

        Who is missing from a search is read alone, so that a search never says that somebody is gone. The status of
        somebody whose own record gives no clear answer is unknown.
        """
        wanted = frozenset(map(checked_id, ids))
        found = (await self._search(wanted, "", None) if wanted else {}) or {}
        missing = sorted(wanted - found.keys())

        async def alone(user_id: str) -> Status | None:
            try:
                return await self.status_of(user_id)
            except Unauthorized as error:
                if error.status == 401:
                    raise
                return Status.UNKNOWN
            except JumpCloudError:
                return Status.UNKNOWN

        own = dict(zip(missing, await together(map(alone, missing)), strict=True))
        known = {user_id: user.status for user_id, user in found.items()}
        return known | {user_id: status for user_id, status in own.items() if status is not None}

    async def record(self, user_id: str, /) -> User | None:
        """The user's own record, bound to nothing; None where JumpCloud says that there is no such user."""
        row = await self._user(user_id)
        return None if row is None else row.user()

    async def status_of(self, user_id: str, /) -> Status | None:
        """The status in the user's own record; None where JumpCloud says that there is no such user."""
        row = await self._user(user_id)
        return None if row is None else row.status

    async def application_paths(self, user_id: str, /) -> Paths:
        """How the user is bound to the application, by the user's own list of applications."""
        _, application = await self._application()
        path = f"/api/v2/users/{checked_id(user_id)}/applications"

        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, "applications of a user")

        def keep(row: GraphRow) -> Ways | None:
            return _of_type(row, "application").ways() if row.id == application.id else None

        found = await whole(page, keep, "applications of a user", merge=lambda old, new: old | new)
        ways = found.get(application.id)
        return Paths(False, False, frozenset()) if ways is None else Paths(True, ways.direct, ways.groups)

    async def groups_of(self, user_id: str, /) -> frozenset[str]:
        """The ids of all groups that the user is a member of."""
        return await self._group_ids(f"/api/v2/users/{checked_id(user_id)}/memberof", "groups of a user")


def _of_type(row: GraphRow, kind: str) -> GraphRow:
    if row.type != kind:
        raise UnexpectedReply(f"JumpCloud lists {row.id} as {row.type[:40]!r} where a {kind} belongs")
    return row


def _not_found(wanted: str, labels: Iterable[str]) -> ApplicationNotFound:
    known = tuple(sorted(filter(None, labels)))
    folded = {label.casefold(): label for label in known}
    alike = [label for fold, label in folded.items() if wanted.casefold() in fold]
    close = [folded[fold] for fold in difflib.get_close_matches(wanted.casefold(), folded, NEAR)]
    return ApplicationNotFound(wanted, tuple(dict.fromkeys([*alike, *close]))[:NEAR], known)


def _without_name(ids: Iterable[str]) -> IncompleteRead:
    first, *others = sorted(ids)
    more = f" and {len(others)} more" if others else ""
    return IncompleteRead(f"JumpCloud's application leads through group {first}{more}, for which it has no name")
