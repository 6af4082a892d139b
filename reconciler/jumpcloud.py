"""Reads the scope from JumpCloud: the application, who is bound to it, and their attributes. Changes nothing there.

Sources: JumpCloud's API descriptions (V1 and V2) and its support pages; where neither says, the comment says
"assumed". The cost is a request per hundred rows: none per group, and none per user but for the point reads.
"""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence, Set
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from reconciler import addresses
from reconciler import jumpcloud_quarantine as quarantine
from reconciler.counting import count
from reconciler.evidence_age import GLANCE, others_wait
from reconciler.http import Http
from reconciler.jumpcloud_access import ServiceAccount, key_headers, login_headers
from reconciler.jumpcloud_lists import APPLICATIONS, PAGE, Lists, Page, Progress, Whole, check_odd, envelope, whole
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
    record,
    usable_address,
)
from reconciler.model import (
    GROUP_NAMES,
    GROUPS,
    USERS,
    Application,
    Directory,
    Group,
    Quarantined,
    Status,
    User,
    is_jumpcloud_id,
    normal,
)
from reconciler.tasks import siblings, together

__all__ = [
    "ApplicationAmbiguous",
    "ApplicationInactive",
    "ApplicationNotFound",
    "GroupScope",
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
    "bearable",
    "key_headers",
    "login_headers",
]

NEAR = 3
"""How many labels an error suggests."""

ALONE = 20
"""How many records that a list lacks are read one by one."""

HIDDEN_ALONE = 100
"""How many records of people in scope that the list of users lacks are read one by one each time: nothing else tells
who of them is suspended."""

RECORDS = 50
"""How many records are read one by one at each look for suspended people, where nothing else can be had."""

WITNESSES = 3
"""How many records of groups that are there, or of users, are read, to see that such a record can be read at all."""

BESIDE = 10
"""How many people are searched for besides, to see that a search finds anybody."""

_USERS = {"fields": UserRow.FIELDS}
_SUSPENDED = {"filter[or][0]": "state:$eq:SUSPENDED", "filter[or][1]": "suspended:$eq:true"}
_REFUSED = (400, 403, 404)
"""Statuses with which a filter or a search is refused, not the reader."""
_GONE = (404, 410)
"""Statuses for a record that is not there: 404 is assumed, 410 is in JumpCloud's list of codes."""
_NOWHERE = Ways(direct=False, groups=frozenset())

T = TypeVar("T")
_Known = tuple[User, frozenset[str]]
"""A user's record as far as it can be read, and the fields that can't."""


@dataclass(frozen=True, slots=True)
class GroupScope:
    """The groups in scope, see `Directory`."""

    groups: Mapping[str, Group]
    unclear: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    quarantined: tuple[Quarantined, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """The users bound to the application, how each is, and the groups. The scope changed while it was read where
    some users are `unsure`. `odd` rows of the list of users could not be used, and `dead` ones were null, as deleted
    users leave them behind: some users may be missing."""

    organization: str
    application: Application
    users: Mapping[str, Ways]
    groups: GroupScope
    unsure: frozenset[str] = frozenset()
    quarantined: tuple[Quarantined, ...] = ()
    odd: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Paths:
    """How one user is bound to the application, by the user's own list of applications. `unclear`: perhaps through
    other groups too, since a path can't be read. `gone`: the user has neither such a list nor a record."""

    bound: bool
    direct: bool
    groups: frozenset[str]
    unclear: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """One user by point reads: `groups` are those that lead from the application to the user, without those in
    `unclear_groups`, which have no usable name. `quarantined` says what can't be read."""

    user: User
    groups: Mapping[str, Group]
    unclear_groups: frozenset[str] = frozenset()
    quarantined: tuple[Quarantined, ...] = ()


class JumpCloud:
    """The reader of one application's scope.

    `application` is its id, or the label that only one has. `forget_token` is that of the service account whose headers
    `http` sends, if it does; `organization` is the one that they name, if any. Every method raises JumpCloudError where
    there is no clear answer.
    """

    def __init__(
        self,
        http: Http,
        application: str,
        forget_token: Callable[[], None] | None = None,
        organization: str | None = None,
    ) -> None:
        self._lists = Lists(http, forget_token)
        self._wanted = normal(application)
        self._home = (organization or "").lower()
        self._known: tuple[str, Application] | None = None
        self._search_works = True
        self._no_witness: set[str] = set()
        self._next_looked_up: dict[str, int] = {}

    # -- the application ----------------------------------------------------------------------------------------------

    async def application(self, bound: tuple[str, str] | None = None) -> tuple[str, Application]:
        """The organisation's id and the application, read anew. Raises ApplicationNotFound, -Ambiguous, -Inactive.

        `bound` are the ids of both as they are on record: the application with this id is known by it where its label
        can't be read, and so is its organisation where the application does not name it.

        Asks the list for named fields only: the record of a single application holds the SAML signing key.
        """
        self._search_works = True
        self._no_witness.clear()
        one = await self._application_by_id(self._wanted) if is_jumpcloud_id(self._wanted) else None
        found = [one] if one else []
        if not found:
            rows = (await self._applications({})).values
            found = [row for row in rows.values() if row.label == self._wanted]
            if not found and bound is not None:
                found = [row for row in rows.values() if row.id == bound[1] and row.unreadable and not row.label]
            if not found:
                raise _not_found(self._wanted, {row.label for row in rows.values()})
        if len(found) > 1:
            raise ApplicationAmbiguous(self._wanted, tuple(sorted(row.id for row in found)))
        self._known = await self._usable(found[0], bound)
        return self._known

    async def _application(self) -> tuple[str, Application]:
        """The application as last read."""
        return self._known or await self.application()

    async def still_there(self) -> None:
        """Raises unless the application can be read now: then a 404, or a list without rows, speaks for itself."""
        organization, application = await self._application()
        row = await self._application_by_id(application.id)
        if row is None:
            raise IncompleteRead(f"the JumpCloud application {application.id}, there at first, is gone")
        await self._usable(row, (organization, application.id))

    async def _application_by_id(self, application_id: str) -> ApplicationRow | None:
        rows = (await self._applications({"filter": f"_id:$eq:{application_id}"}, application_id)).values
        return rows.get(application_id)

    async def _applications(self, params: Mapping[str, str], wanted: str = "") -> Whole[ApplicationRow]:
        """The applications; only the first page of them where that has the one that is `wanted`."""
        fields = {"fields": ApplicationRow.FIELDS, **params}

        async def page(skip: int) -> Page[ApplicationRow]:
            return await self._lists.v1(APPLICATIONS, ApplicationRow, fields, skip, "applications")

        first = await page(0)
        if here := {row.id: row for row in first.rows if row.id == wanted}:
            return Whole(here)
        return await whole(page, lambda row: row, "applications", first=first)

    async def _usable(self, row: ApplicationRow, bound: tuple[str, str] | None) -> tuple[str, Application]:
        application = Application(row.id, row.label)
        known = bound[0] if bound is not None and bound[1] == row.id else ""
        needed = {"active"} if known else {"active", "organization"}
        if odd := sorted(row.unreadable & needed):
            raise UnexpectedReply(f"JumpCloud's reply about the application {row.id} is not as documented, at {odd[0]}")
        if row.active is False:
            raise ApplicationInactive(application)
        return row.organization or known or await self._organization(), application

    async def _organization(self) -> str:
        """The organisation of the credentials, for applications that do not name theirs and are not on record.

        The list may hold all organisations of the administrator, whichever one the request names.
        """

        async def page(skip: int) -> Page[Row]:
            return await self._lists.v1("/api/organizations", Row, {"fields": "_id"}, skip, "organisations")

        found = (await whole(page, lambda row: row.id, "organisations")).values
        if self._home in found:
            return self._home
        if len(found) != 1:
            missing = f", and jumpcloud.organization ({self._home}) is none of them" if self._home and found else ""
            raise UnexpectedReply(
                f"JumpCloud names {count(len(found), 'organisation')} for these credentials{missing}",
                "Put the id of the one with the application into jumpcloud.organization.",
            )
        return next(iter(found))

    # -- the scope ----------------------------------------------------------------------------------------------------

    async def read_scope(self, progress: Progress | None, teams: Mapping[str, Collection[str]] | None = None) -> Scope:
        """Everybody bound to the application, with the groups that lead there, and all groups bound to it.

        A group on a path is bound, whether the application's list of groups has it or not: where the two disagree they
        are read again, and then both believed, since a membership must not be lost for it. Nobody in scope is an
        answer only while the application is there; the application itself is as last read. `teams`: see
        `group_scope`. Raises JumpCloudError where the application or its users can't be read; what else can't be had
        makes groups unclear.
        """
        organization, application = await self._application()
        for _ in range(2):
            async with siblings() as group:
                users_read = group.create_task(self._users_in_scope(application, progress))
                groups_read = group.create_task(_attempted(self._bound_groups(application)))
            users, (bound, problem) = users_read.result(), groups_read.result()
            through = frozenset[str]().union(*(ways.groups for ways in users.values.values()))
            if bound is None or through <= bound.values.keys():
                break
        if not users.values:
            await self.still_there()
        groups = await self._group_scope(bound, problem, through, teams or {})
        records = [*quarantine.rows(users.odd, "users in scope"), *quarantine.scope(users.values, users.unsure)]
        return Scope(
            organization, application, users.values, groups, users.unsure, tuple(records), users.odd, users.dead
        )

    async def group_scope(self, through: Collection[str], teams: Mapping[str, Collection[str]]) -> GroupScope:
        """The groups in the application's own list of groups and those in `through`, with their names.

        A group without a usable name, and all groups where their names can't be had, are unclear. Where the
        application's list can't be had, so are the groups of `teams` that are not in `through`. `teams` leads from the
        ids of groups to the names of their teams. Such a group that is missing from the scope is looked up where
        another group in scope has one of these names: it is gone if its record is.
        """
        _, application = await self._application()
        bound, problem = await _attempted(self._bound_groups(application))
        return await self._group_scope(bound, problem, frozenset(through), teams)

    async def _group_scope(
        self, bound: Whole[str] | None, problem: str, through: frozenset[str], teams: Mapping[str, Collection[str]]
    ) -> GroupScope:
        ids = through.union(bound.values if bound else ())
        named, records = await self._with_names(ids)
        missing = teams.keys() - ids
        if bound is None:
            records.append(quarantine.unreadable_list(GROUPS, problem))
            return GroupScope(named, frozenset(ids - named.keys() | missing), frozenset(), tuple(records))
        records += quarantine.rows(bound.odd, "groups in scope")
        unsure = bound.unsure - through
        unclear = (ids - named.keys()) | unsure | (missing if bound.odd else frozenset())
        groups = {group_id: group for group_id, group in named.items() if group_id not in unsure}
        gone = await self._gone(missing - unclear, groups, teams)
        return GroupScope(groups, frozenset(unclear), gone, tuple(records))

    async def _with_names(self, ids: frozenset[str]) -> tuple[dict[str, Group], list[Quarantined]]:
        """Those of these groups that have a usable name, and what is wrong with the others."""
        if not ids:
            return {}, []
        listed, problem = await _attempted(self._named(ids))
        if listed is None:
            return {}, [quarantine.unreadable_list(GROUP_NAMES, problem)]
        absent = sorted(ids - listed.values.keys())
        return await self._named_alone(ids, listed.values, absent[:ALONE])

    async def _named_alone(
        self, ids: frozenset[str], listed: Mapping[str, Group], asked: Sequence[str]
    ) -> tuple[dict[str, Group], list[Quarantined]]:
        """The same, with the records of those that are `asked` for besides those that are `listed`."""
        answers = dict(zip(asked, await together(_attempted(self._group(one)) for one in asked), strict=True))
        found = {**listed, **{group_id: group for group_id, (group, _) in answers.items() if group is not None}}
        named = {group_id: group for group_id, group in sorted(found.items()) if group.name}
        records = [
            quarantine.nameless(group_id, listed=group_id in found, missing=answers.get(group_id) == (None, ""))
            for group_id in sorted(ids - named.keys())
        ]
        return named, records

    async def _gone(
        self, missing: Iterable[str], groups: Mapping[str, Group], teams: Mapping[str, Collection[str]]
    ) -> frozenset[str]:
        """Whoever bears the name of a group's team may be to take it over, which asks for the group's end.

        That a record is not there is believed where the list of all groups lacks the group too, and where the record
        of a group that is there can be read: of one of the first few, as a single one may be refused.
        """
        names = {normal(group.name).casefold() for group in groups.values()}
        asked = sorted(one for one in missing if is_jumpcloud_id(one) and _named_in(teams[one], names))[:ALONE]

        async def is_gone(group_id: str) -> bool:
            return await self._group(group_id) is None

        answers = await together(_attempted(is_gone(group_id)) for group_id in asked)
        gone = frozenset(group_id for group_id, (gone, _) in zip(asked, answers, strict=True) if gone)
        if not gone:
            return gone
        listed, _ = await _attempted(self._named(gone))
        if listed is None or listed.odd or not await self._can_read_groups(sorted(groups)[:WITNESSES]):
            return frozenset()
        return gone - listed.values.keys()

    async def _can_read_groups(self, group_ids: Sequence[str]) -> bool:
        """Whether the record of one of these groups, which are there, can be read. A single one may be refused."""
        for group_id in group_ids:
            group, _ = await _attempted(self._group(group_id))
            if group is not None:
                return True
        return False

    async def groups_in_scope(self) -> frozenset[str]:
        """The ids of the groups in the application's own list; raises JumpCloudError where a row of it can't be read,
        so that it proves the absence of any other."""
        _, application = await self._application()
        bound = await self._bound_groups(application)
        if bound.odd:
            raise IncompleteRead("a row in JumpCloud's list of groups in scope can't be read")
        if bound.short:
            raise IncompleteRead("JumpCloud's list of groups in scope has fewer rows than it says")
        return frozenset(bound.values)

    async def users_in_scope(self) -> frozenset[str]:
        """The ids of everybody in the application's own list. Who is not in it may be in a row that can't be read."""
        _, application = await self._application()
        return frozenset((await self._users_in_scope(application, None)).values)

    async def _users_in_scope(self, application: Application, progress: Progress | None) -> Whole[Ways]:
        """Direct and indirect bindings come in one list, each with its paths: no request per group."""
        path = f"/api/v2/applications/{application.id}/users"
        shared: dict[Ways, Ways] = {}

        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, "users in scope", "user")

        def keep(row: GraphRow) -> Ways:
            return shared.setdefault(row.ways, row.ways)  # few of them differ

        return await whole(page, keep, "users in scope", merge=lambda old, new: old | new, progress=progress)

    async def _bound_groups(self, application: Application) -> Whole[str]:
        path = f"/api/v2/applications/{application.id}/usergroups"

        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, "groups in scope", "user_group")

        # The paths of these rows are not read.
        return await whole(page, lambda row: row.id, "groups in scope", unusable=None)

    async def _named(self, ids: Collection[str]) -> Whole[Group]:
        """These groups, as far as they are listed. The list takes no filter by id, so it is read whole, unless its
        first page has them all: only that a group is missing takes the end of the list."""

        async def page(skip: int) -> Page[GroupRow]:
            params = {"fields": "id,name", "sort": "name"}
            return await self._lists.v2("/api/v2/usergroups", GroupRow, params, skip, "groups")

        first = await page(0)
        here = {row.id: row.group() for row in first.rows if row.id in ids}
        if here.keys() == set(ids):
            return Whole(here)
        return await whole(page, lambda row: row.group() if row.id in ids else None, "groups", first=first)

    # -- the users' attributes ----------------------------------------------------------------------------------------

    async def read_directory(
        self,
        scope: Scope,
        also: Collection[str],
        progress: Progress | None,
        likely: Sequence[str] = (),
        overdue: Collection[str] = (),
    ) -> Directory:
        """Everybody in scope and those in `also`, with their attributes; what can't be a JumpCloud id is ignored.

        `likely` are those in `also` who may be in scope, the likeliest first: where a row of the scope can't be used,
        the first of them whom it lacks are asked for alone; so are as many of them as there are null rows, which nobody
        can tell from those of deleted users.

        Whoever the application lists and the users' list lacks is read alone, `HIDDEN_ALONE` of them by turns; their
        state is unknown where there is no own record. They may be deleted: then the application lists them no more once
        it is up to date. So are leavers in `overdue` whom both lists lack, `ALONE` of them: as deleted nobody is locked
        whose own record is there. Where the attributes can't be had at all, the state of everybody is unknown whom no
        search finds.
        """
        wanted = frozenset(scope.users).union(user_id for user_id in also if is_jumpcloud_id(user_id))
        records = [*scope.quarantined, *scope.groups.quarantined]
        found, problem = await self._attributes(wanted, scope, records, progress) if wanted else ({}, "")
        lacking = wanted - found.keys()
        unknown: frozenset[str] = frozenset()
        if problem:
            records.append(quarantine.unreadable_list(USERS, problem))
            unknown = lacking
        else:
            hidden = lacking.intersection(scope.users)
            asked = self._next("hidden", sorted(hidden), HIDDEN_ALONE)
            unlisted = self._next("unlisted", sorted(lacking.intersection(overdue) - hidden), ALONE)
            with others_wait():
                read = await together(_attempted(self._user(user_id)) for user_id in (*asked, *unlisted))
            answers = dict(zip((*asked, *unlisted), read, strict=True))
            found |= {user_id: known for user_id, (known, _) in answers.items() if known is not None}
            unknown = hidden - found.keys()
            missing = {user_id for user_id, answer in answers.items() if answer == (None, "")}
            records += [quarantine.hidden(user_id, missing=user_id in missing) for user_id in sorted(unknown)]
        overlooked = [one for one in likely if one in found and one not in scope.users]
        overlooked = [one for one in overlooked if found[one][0].status is Status.ACTIVE]
        ways_alone = await self._ways_alone(overlooked[: ALONE if scope.odd else min(scope.dead, ALONE)])
        users = {}
        for user_id in sorted({*found, *unknown}):
            ways = scope.users.get(user_id) or ways_alone.get(user_id, _NOWHERE)
            user, unreadable = found.get(user_id) or (User(user_id, "", Status.UNKNOWN), frozenset[str]())
            users[user_id] = _bound(user, ways, unsure=user_id in scope.unsure)
            records += quarantine.fields(user_id, unreadable)
        return Directory(
            scope.organization,
            scope.application,
            users,
            scope.groups.groups,
            scope.groups.unclear,
            scope.groups.gone,
            tuple(sorted(set(records))),
        )

    async def _ways_alone(self, user_ids: Sequence[str]) -> dict[str, Ways]:
        """How these users are bound, by their own lists of applications, as far as those say that they are."""
        found = await together(_attempted(self.application_paths(one)) for one in user_ids)
        return {
            user_id: Ways(paths.direct, paths.groups, paths.unclear)
            for user_id, (paths, _) in zip(user_ids, found, strict=True)
            if paths is not None and paths.bound
        }

    async def _unlisted(self, user_id: str) -> _Known | None:
        """Somebody whom the application lists and the users' list lacks: the own record, as far as there is one."""
        known, _ = await _attempted(self._user(user_id))
        return known

    async def _attributes(
        self, wanted: frozenset[str], scope: Scope, records: list[Quarantined], progress: Progress | None
    ) -> tuple[dict[str, _Known], str]:
        """The cheaper way, by requests: the rest of the whole list, or searches for just these ids. Where the list
        can't be had, searches; then it says why, unless the searches can be relied on."""
        first, problem = await _attempted(self._first_page_of_users(wanted))
        found = {row.id: _known(row) for row in first.rows if row.id in wanted} if first else {}
        if first and scope.users and not first.length:
            problem = f"it is empty, and {count(len(scope.users), 'user', 'is')} in scope"
        lacking = wanted - found.keys()
        if not lacking:
            return found, ""
        witness = first.rows[-1].id if first and first.rows else ""
        if first is None or problem:
            return await self._without_list(found, lacking, problem, progress)
        if first.total is not None and -(-len(lacking) // PAGE) < -(-first.total // PAGE) - 1:
            searched, _ = await _attempted(self._search_twice(lacking, witness, progress))
            # The index of a search may be behind the list: it has whoever the search lacks and the application lists.
            if searched is not None and len((lacking - searched.keys()) & scope.users.keys()) <= ALONE:
                return found | searched, ""
        listed, problem = await _attempted(self._listed(wanted, progress, first))
        if listed is None:
            return await self._without_list(found, lacking, problem, progress)
        records += quarantine.rows(listed.odd, "users")
        found |= listed.values
        lacking = wanted - found.keys()
        if lacking and witness:
            again = await self._at_a_glance(self._search(lacking, witness, None))
            if again is None and not lacking.isdisjoint(scope.users):
                relisted, _ = await _attempted(self._listed(lacking, None, None))
                again = relisted.values if relisted else None
            found |= again or {}
        return found, ""

    async def _without_list(
        self, found: dict[str, _Known], lacking: frozenset[str], problem: str, progress: Progress | None
    ) -> tuple[dict[str, _Known], str]:
        """Searches where the list can't be had; the problem lasts unless they find everybody, or somebody whom they
        found before bears witness that they lack nobody else."""
        searched, _ = await _attempted(self._search(lacking, "", progress, patient=True))
        found = found | (searched or {})
        lacking = lacking - found.keys()
        if searched is None or not lacking:
            return found, problem if lacking else ""
        again, _ = await _attempted(self._search(lacking, min(found), None, patient=True)) if found else (None, "")
        return found | (again or {}), "" if again is not None else problem

    async def _first_page_of_users(self, wanted: Collection[str]) -> Page[UserRow]:
        """The first page, which may have everybody who is wanted: raises where too many of them can't be read."""
        page = await self._page_of_users(0)
        check_odd(sum(row.unusable for row in page.rows if row.id in wanted), page.length, "users")
        return page

    async def _page_of_users(self, skip: int, *, patient: bool = True) -> Page[UserRow]:
        return await self._lists.v1("/api/systemusers", UserRow, _USERS, skip, "users", patient=patient)

    async def _listed(
        self, wanted: Collection[str], progress: Progress | None, first: Page[UserRow] | None
    ) -> Whole[_Known]:
        def keep(row: UserRow) -> _Known | None:
            return _known(row) if row.id in wanted else None

        return await whole(self._page_of_users, keep, "users", progress=progress, first=first)

    async def _search_twice(
        self, wanted: frozenset[str], witness: str, progress: Progress | None
    ) -> dict[str, _Known] | None:
        """Searches for these ids, and again for whom the first ones lack; None where they are not to be relied on."""
        found = await self._search(wanted, "", progress)
        lacking = wanted - found.keys() if found is not None else frozenset()
        if found is None or not lacking:
            return found
        # A search that finds now whom it lacked before, or that does not find the witness, has missed people.
        return found if await self._search(lacking, witness, None) == {} else None

    async def _search(
        self, wanted: Collection[str], witness: str, progress: Progress | None, *, patient: bool = False
    ) -> dict[str, _Known] | None:
        """Users by their ids, a hundred a request; None where the search does not do as it is asked. Only a `patient`
        one is repeated after a failure: mostly another way tells the same.

        That ids may be joined by "or" is described for other fields only; so an answer is believed only if it adds up,
        names nobody else and has the `witness`, a user of whom it is known that there is one (empty: without). Raises
        where the states of too many can't be read.
        """
        ids = sorted(wanted)
        size = PAGE - 1 if witness else PAGE
        chunks = [[*ids[start : start + size], *filter(None, [witness])] for start in range(0, len(ids), size)]
        found: dict[str, _Known] = {}
        odd = 0

        async def one(chunk: list[str]) -> None:
            nonlocal odd
            if not self._search_works:
                return
            rows = await self._every_match(_by_ids(chunk), len(chunk), patient=patient)
            seen = {row.id for row in rows or ()}
            if rows is None or not seen <= set(chunk) or (witness and witness not in seen):
                self._search_works = False
                return
            odd += sum(row.unusable for row in rows)
            found.update({row.id: _known(row) for row in rows if row.id in wanted})
            if progress:
                progress("users", len(found), len(ids))

        await together(map(one, chunks))
        check_odd(odd, len(found), "users found")
        return found if self._search_works else None

    async def _every_match(
        self, what: Mapping[str, object], enough: int, *, patient: bool = True, shown: dict[str, UserRow] | None = None
    ) -> list[UserRow] | None:
        """The users whom a search finds, read to the empty page or until there are `enough`.

        None where JumpCloud refuses it, where a row can't be read, or where it has less than its total says. `shown`
        gets those who were found all the same.
        """
        rows = {} if shown is None else shown
        skip = 0
        while True:
            page = await self._searched(what, skip, patient=patient)
            if page is None:
                return None
            before = len(rows)
            rows.update((row.id, row) for row in page.rows)
            if page.odd:
                return None
            skip += page.length
            if len(rows) >= enough:
                return list(rows.values())
            if len(rows) == before:
                return list(rows.values()) if (page.total or 0) <= before else None

    async def _searched(self, what: Mapping[str, object], skip: int, *, patient: bool) -> Page[UserRow] | None:
        """One page of a search, None where JumpCloud refuses it.

        Paging stands in the body by the API description, in the query by others: JumpCloud's own module sends both.
        """
        paging = {"limit": PAGE, "skip": skip}
        body = {**what, "fields": UserRow.FIELDS, **paging}
        path = "/api/search/systemusers"
        reply = await self._lists.send("POST", path, paging, body=body, also=_REFUSED, patient=patient)
        return envelope(reply, UserRow, "users found", skip) if reply.status == 200 else None

    # -- one person ---------------------------------------------------------------------------------------------------

    async def person(
        self, *, id: str | None = None, email: str | None = None, by_search: bool = False
    ) -> Person | None:
        """One user by id or by address; None where nobody has it. Raises PersonAmbiguous for an address of several.

        Somebody with this id whose record is missing, and whom the graph binds, has an unknown state. `by_search`: an
        address is only searched for, not looked for in the whole list, which proves nothing.
        """
        known = await (self._user(id) if id is not None else self._by_address(email or "", by_search=by_search))
        if known is not None:
            user, unreadable = known
            paths = await self.application_paths(user.id)
            return await self._person(user, paths, quarantine.fields(user.id, unreadable))
        paths = await self._paths_without_record(id) if id is not None else _UNBOUND
        if id is None or not paths.bound:
            return None
        return await self._person(User(id, "", Status.UNKNOWN), paths, [quarantine.hidden(id, missing=True)])

    async def _paths_without_record(self, user_id: str) -> Paths:
        """How somebody is bound who has no record: by the own list of applications, or by the application's list: the
        administrator's role may not see the person."""
        paths = await self.application_paths(user_id)
        if paths.bound:
            return paths
        _, application = await self._application()
        return _paths((await self._users_in_scope(application, None)).values.get(user_id))

    async def _person(self, user: User, paths: Paths, records: list[Quarantined]) -> Person:
        ways = Ways(paths.direct, paths.groups, paths.unclear)
        groups, nameless = await self._named_alone(paths.groups, {}, sorted(paths.groups))
        records = [*records, *quarantine.scope({user.id: ways}, ()), *nameless]
        return Person(_bound(user, ways, unsure=False), groups, paths.groups - groups.keys(), tuple(sorted(records)))

    async def _user(self, user_id: str) -> _Known | None:
        row = await self._user_row(user_id)
        return None if row is None else _known(row)

    async def _user_row(self, user_id: str) -> UserRow | None:
        """A user's own record; None where it is gone, which only counts while the application can still be read.

        Where the record can't be read, or does not tell the state, what a search for the id finds stands for it, or for
        what it does not show: a search may be behind. The search comes before further attempts: evidence would grow old
        meanwhile.
        """
        row, problem = await _attempted(self._record(user_id, patient=False))
        if problem or (row is not None and row.unusable and row.status is Status.UNKNOWN):
            if (found := await self._search_one(user_id)) is not None:
                return found if row is None else row.filled(found)
            row = row or await self._record(user_id, patient=True)
        if row is None:
            await self.still_there()
        return row

    async def _record(self, user_id: str, *, patient: bool) -> UserRow | None:
        path = f"/api/systemusers/{checked_id(user_id)}"
        reply = await self._lists.send("GET", path, _USERS, also=_GONE, patient=patient)
        if reply.status in _GONE:
            return None
        row = record(UserRow, document(reply), "a user")
        if row.id != user_id:
            raise UnexpectedReply(f"JumpCloud answered with another user than {user_id}")
        return row

    async def _search_one(self, user_id: str) -> UserRow | None:
        """The user by a search; None where it finds nobody, or does not do as it is asked for this user.

        A search that fails is not repeated, nor waited for: it is asked beside other reads, and what those tell would
        grow old.
        """
        if not self._search_works:
            return None
        rows = await self._at_a_glance(self._every_match(_by_ids([checked_id(user_id)]), 1, patient=False))
        return rows[0] if rows and [row.id for row in rows] == [user_id] else None

    async def _at_a_glance(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of a read that the work can do without, None where it is not there soon once the service
        lets it begin: whatever is asked for in its place has to wait as long."""
        with closing(work), suppress(TimeoutError):
            await self._lists.calm()
            async with asyncio.timeout(GLANCE):
                return (await _attempted(work))[0]
        return None

    async def _filter_one(self, user_id: str) -> UserRow | None:
        """The user by a filter of the list, whose row has the id; None where that finds nobody."""
        rows = await self._at_a_glance(self._by_filter("_id", checked_id(user_id), patient=False))
        return next((row for row in rows or () if row.id == user_id), None)

    async def _group(self, group_id: str) -> Group | None:
        """A group, with an empty name where it has none that can be used; None where its record is gone."""
        reply = await self._lists.send("GET", f"/api/v2/usergroups/{checked_id(group_id)}", {}, also=_GONE)
        if reply.status in _GONE:
            return None
        group = record(GroupRow, document(reply), "a group").group()
        if group.id != group_id:
            raise UnexpectedReply(f"JumpCloud answered with another group than {group_id}")
        return group

    async def in_use(self, emails: Collection[str], owners: Collection[str] = ()) -> frozenset[str]:
        """Those of these addresses that some user has, or one alike: by the whole list. An empty one is among them
        where somebody is bound to the application, is not suspended and has no usable address, since any may be theirs.

        Raises IncompleteRead also where somebody is bound whose record is missing; `owners` are those (JumpCloud ids)
        who are known to have another address.
        """
        wanted, listed, without = set(map(addresses.alike_key, emails)), set[str](), set[str]()

        def key(row: UserRow) -> str | None:
            listed.add(row.id)
            if row.status is not Status.SUSPENDED and not usable_address(row.email):
                without.add(row.id)
            found = addresses.alike_key(row.email or "")
            return found if found in wanted else None

        every = await whole(self._page_of_users, key, "users")
        if every.short:
            raise IncompleteRead("JumpCloud's list of users has fewer rows than it says")
        _, application = await self._application()
        bound = await self._users_in_scope(application, None)
        lacking = sorted(bound.values.keys() - listed - {*owners})
        alone = await together(map(self._unlisted, lacking[:ALONE]))
        if number := alone.count(None) + len(lacking[ALONE:]):
            words = f"{count(number, 'user', 'is')} bound to the application"
            raise IncompleteRead(f"{words}, and JumpCloud shows no record that has the address")
        found = [known[0] for known in alone if known is not None]
        without |= {user.id for user in found if user.status is not Status.SUSPENDED and not user.email}
        held = {*every.values.values(), *(addresses.alike_key(user.email) for user in found)}
        used = {email for email in emails if addresses.alike_key(email) in held}
        return frozenset(used | {""} if without & bound.values.keys() - {*owners} else used)

    async def _by_address(self, email: str, *, by_search: bool = False) -> _Known | None:
        """The user with this address: by a filter, which may heed the case; by a text search; else in the list.

        The text search is documented to find parts of an address, and assumed not to heed the case: it also finds a
        second user whose address is written in another way. That neither finds anybody proves nothing: only the whole
        list says that nobody has an address. A way that fails is as one that finds nobody, but for the list; whom it
        has shown before it failed, it has found.
        """
        address = usable_address(email)
        if not address:
            return None
        filtered, _ = await _attempted(self._by_filter("email", address))
        rows = [row for row in filtered or () if row.has_address(address)]
        if len(rows) < 2:
            what = {"searchFilter": {"searchTerm": address, "fields": ["email"]}, "sort": "_id"}
            shown: dict[str, UserRow] = {}
            # More than a page of them is no answer to a whole address.
            await _attempted(self._every_match(what, PAGE, shown=shown))
            known = {one.id for one in rows}
            rows += [row for row in shown.values() if row.has_address(address) and row.id not in known]
        if not rows and not by_search:
            every = await whole(self._page_of_users, lambda row: row if row.has_address(address) else None, "users")
            rows = list(every.values.values())
            if every.short and not rows:
                raise IncompleteRead("JumpCloud's list of users has fewer rows than it says")
        if len(rows) > 1:
            raise PersonAmbiguous(address, tuple(sorted(row.id for row in rows)))
        return next((_known(row) for row in rows if addresses.same(row.email or "", address)), None)

    async def _by_filter(self, field: str, value: str, *, patient: bool = True) -> Sequence[UserRow]:
        first: dict[str, str | int] = {"filter": f"{field}:$eq:{value}", "sort": "_id", "limit": PAGE, "skip": 0}
        params = {**_USERS, **first}
        reply = await self._lists.send("GET", "/api/systemusers", params, also=_REFUSED, patient=patient)
        return envelope(reply, UserRow, "users", 0).rows if reply.status == 200 else ()

    # -- many people, for the evidence of one operation or of the leavers ----------------------------------------------

    async def suspended(self, active: Collection[str], witness: Set[str]) -> frozenset[str]:
        """The ids of users that JumpCloud says are suspended; of others than `active` it may say nothing.

        One filter by state is asked for, and each row's own state decides, since that V1 lists heed filters on these
        fields is assumed. The filter is not believed where it gives no clear answer, where it needs more pages than a
        search of the ids in `active` would, or where it lacks somebody in `witness` (people who were suspended when
        last read) who still is. Then the ids in `active` are searched for, or else looked for in the whole list.
        Where it finds nobody, and nobody bears witness, a hundred of them are searched for each time. Where neither the
        list nor a search can be had, or tells the state of some, `RECORDS` of them are read one by one each time.
        """
        pages = max(1, -(-len(active) // PAGE))
        wanted = frozenset(filter(is_jumpcloud_id, active))
        found, _ = await _attempted(self._filtered_by_suspension(pages, wanted))
        if found is not None and not await self._is_suspended_still(witness - found, sorted(found | wanted)[:BESIDE]):
            return found or await self._some_suspended(sorted(wanted))
        users, _ = await _attempted(self._search(wanted, "", None))
        if users or not wanted:
            return await self._suspended_of(users or {})
        # A list that fails is waited for only where nobody's own record can be had either.
        first, _ = await _attempted(self._page_of_users(0, patient=False))
        listed, _ = await _attempted(self._listed(wanted, None, first)) if first else (None, "")
        own = None if listed else await self._some_records("read", sorted(wanted))
        if own is not None:
            return own
        return await self._suspended_of((listed or await self._listed(wanted, None, None)).values)

    async def suspended_by_record(self, user_ids: Collection[str]) -> frozenset[str]:
        """Those of these users whose own record says that they are suspended; `RECORDS` of them are read."""
        return _suspended_rows(await self._records(sorted(filter(is_jumpcloud_id, user_ids))[:RECORDS]))

    async def _records(self, user_ids: Iterable[str]) -> list[tuple[UserRow | None, str]]:
        """Their own records, each with why it can't be read."""
        return await together(_attempted(self._record(user_id, patient=False)) for user_id in user_ids)

    async def _some_suspended(self, user_ids: Sequence[str]) -> frozenset[str]:
        """The suspended ones among the next hundred of these users, as far as a search finds them."""
        chunk = self._next("searched", user_ids, PAGE)
        users, _ = await _attempted(self._search(chunk, "", None)) if chunk else (None, "")
        return await self._suspended_of(users or {})

    async def _suspended_of(self, users: Mapping[str, _Known]) -> frozenset[str]:
        """The suspended ones of these users; those whose state can't be read are looked up by turns."""
        untold = sorted(user_id for user_id, (user, _) in users.items() if user.status is Status.UNKNOWN)
        own = await self._some_records("untold", untold) if untold else None
        return _suspended(users) | (own or frozenset())

    async def _some_records(self, way: str, user_ids: Sequence[str]) -> frozenset[str] | None:
        """The suspended ones among the next of these users by their own records; None where the first few can't be
        read. Some may be refused for good: so the next look begins with others."""
        start = self._next_looked_up.get(way, 0) % len(user_ids)
        chunk = [*user_ids[start:], *user_ids[:start]][:RECORDS]
        few, rest = chunk[:WITNESSES], chunk[WITNESSES:]
        answers = await self._records(few)
        if all(problem for _, problem in answers):
            self._next_looked_up[way] = start + len(few)
            return None
        self._next_looked_up[way] = start + len(chunk)
        return _suspended_rows([*answers, *await self._records(rest)])

    def _next(self, way: str, user_ids: Sequence[str], most: int) -> Sequence[str]:
        """The next of these users whose turn it is to be looked up in this way: all where there are no more."""
        if len(user_ids) <= most:
            return user_ids
        start = self._next_looked_up.get(way, 0)
        start = start if start < len(user_ids) else 0
        self._next_looked_up[way] = start + most
        return user_ids[start : start + most]

    async def _is_suspended_still(self, witness: Set[str], beside: Collection[str]) -> bool:
        """Whether one of these users, as far as one request can tell, is suspended still.

        Whoever is not, deleted users among them, is asked for no more until the application is read again. A search
        that finds nobody, not even one of those `beside`, says nothing of anybody: then one is asked for alone.
        """
        asked = sorted(one for one in witness - self._no_witness if is_jumpcloud_id(one))[: PAGE - BESIDE]
        if not asked:
            return False
        found, _ = await _attempted(self._search({*asked, *beside}, "", None))
        if not found:
            user, problem = await _attempted(self.record(asked[0]))
            if problem:
                return False
            asked, found = asked[:1], {} if user is None else {user.id: (user, frozenset())}
        suspended = _suspended(found) & set(asked)
        self._no_witness |= set(asked) - suspended
        return bool(suspended)

    async def _filtered_by_suspension(self, most: int, active: Set[str]) -> frozenset[str] | None:
        """Read the users whom the filter finds, to the empty page.

        None where the filter is refused, needs more pages than `most`, or does not show the state of one in `active`.
        It is not repeated after a failure: a search tells the same.
        """
        params: dict[str, str | int] = {**_USERS, **_SUSPENDED, "sort": "_id", "limit": PAGE}
        found: set[str] = set()
        skip = 0
        for _ in range(most + 1):
            asked = {**params, "skip": skip}
            reply = await self._lists.send("GET", "/api/systemusers", asked, also=_REFUSED, patient=False)
            if reply.status != 200:
                return None
            page = envelope(reply, UserRow, "suspended users", skip)
            if not page.length:
                return frozenset(found)
            unclear = any(row.status is Status.UNKNOWN and row.id in active for row in page.rows)
            if (page.total or 0) > most * PAGE or unclear:
                return None
            found.update(row.id for row in page.rows if row.status is Status.SUSPENDED)
            skip += page.length
        return None

    async def users(self, ids: Collection[str]) -> Mapping[str, User] | None:
        """Each of these users whom searches of a hundred ids find, bound to nothing; None where the search does not do
        as it is asked. A user who is missing may be there all the same."""
        found = await self._search(frozenset(map(checked_id, ids)), "", None, patient=True)
        return None if found is None else {user_id: user for user_id, (user, _) in found.items()}

    async def record(self, user_id: str, /) -> User | None:
        """The user, bound to nothing: by the own record, or where that is missing or tells no state, by a search or a
        filter of the list.

        None where all of them lack the user.
        """
        row, refusal = None, None
        try:
            row = await self._user_row(user_id)
        except JumpCloudError as error:
            _unless_refused(error)
            refusal = error
        if row is None or row.status is Status.UNKNOWN:
            found = await self._search_one(user_id) or await self._filter_one(user_id)
            row = row.filled(found) if row is not None and found is not None else row or found
        if row is None and refusal is not None:
            raise refusal
        return None if row is None else row.user()

    async def status_of(self, user_id: str, /) -> Status | None:
        """The status in `user`; None where JumpCloud says that there is no such user."""
        user = await self.user(user_id)
        return None if user is None else user.status

    async def user(self, user_id: str, /) -> User | None:
        """The user, bound to nothing: by the own record, or by a search where that can't be read; None where JumpCloud
        says that there is no such user.

        A search, which may be behind, stands for a missing record too, but only where the user's own list of
        applications has this one.
        """
        row = await self._user_row(user_id)
        if row is None and (found := await self._search_one(user_id)) is not None:
            paths = await self._own_paths(user_id)
            row = found if paths is not None and paths.bound else None
        return None if row is None else row.user()

    async def application_paths(self, user_id: str, /) -> Paths:
        """How the user is bound to the application, by the user's own list of applications.

        That the application is not in it is said only by the whole list, read to its end, each row of it, or by 404 or
        410 for a user whose own record is gone too.
        """
        found = await self._own_paths(user_id)
        if found is not None:
            return found
        if await self._user(user_id) is not None:
            raise UnexpectedReply(f"JumpCloud has a record of user {user_id}, and no list of their applications")
        return replace(_UNBOUND, gone=True)

    async def _own_paths(self, user_id: str) -> Paths | None:
        """The paths in the user's own list of applications; None where JumpCloud says that there is no such list."""
        _, application = await self._application()
        path = f"/api/v2/users/{checked_id(user_id)}/applications"

        unreadable = f"JumpCloud lists an application of user {user_id} that can't be read"

        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, "applications of a user")

        def keep(row: GraphRow) -> Ways | None:
            """The ways to this application; those to others prove nothing about it."""
            if row.id != application.id:
                return None
            if row.type != "application":
                raise UnexpectedReply(unreadable)
            return row.ways

        try:
            first = await page(0)
        except UnexpectedReply as error:
            if error.status in _GONE:
                return None
            raise
        ways = next(filter(None, map(keep, first.rows)), None)
        if ways is None:
            what = "applications of a user"
            found = await whole(page, keep, what, merge=lambda old, new: old | new, first=first)
            ways = found.values.get(application.id)
            if ways is None and found.odd:
                raise UnexpectedReply(unreadable)
            if ways is None and found.short:
                raise IncompleteRead(f"JumpCloud's list of applications of user {user_id} has fewer rows than it says")
        return _paths(ways)

    async def groups_of(self, user_id: str, /, *, absent: Collection[str] = ()) -> frozenset[str]:
        """The ids of all groups that the user is a member of.

        Raises JumpCloudError where a row has no usable id. The absence of the groups in `absent` is proven: raises too
        where the list has fewer rows than it says, and where a row about one of them has another type than a group.
        """
        path = f"/api/v2/users/{checked_id(user_id)}/memberof"

        async def page(skip: int) -> Page[GraphRow]:
            return await self._lists.v2(path, GraphRow, {}, skip, "groups of a user")

        # The paths of these rows are not read.
        found = await whole(page, lambda row: row.type, "groups of a user", unusable=None)
        groups = frozenset(group_id for group_id, type in found.values.items() if type == "user_group")
        if found.odd or not found.values.keys().isdisjoint({*absent} - groups):
            raise UnexpectedReply(f"JumpCloud lists a group of user {user_id} that can't be read")
        if found.short and absent:
            raise IncompleteRead(f"JumpCloud's list of groups of user {user_id} has fewer rows than it says")
        return groups


_UNBOUND = Paths(bound=False, direct=False, groups=frozenset())


async def _attempted(work: Awaitable[T]) -> tuple[T | None, str]:
    """Return the result of a read; None, and why, where JumpCloud gives no clear answer.

    Raises where the credentials are not accepted, as then nothing can be read.
    """
    try:
        return await work, ""
    except JumpCloudError as error:
        _unless_refused(error)
        return None, error.problem


def _by_ids(user_ids: Sequence[str]) -> Mapping[str, object]:
    """What a search for the users with these ids asks for."""
    return {"filter": {"or": [{"_id": user_id} for user_id in user_ids]}, "sort": "_id"}


def bearable(error: JumpCloudError) -> bool:
    """Whether other requests may succeed all the same: not where the credentials are not accepted."""
    return not (isinstance(error, Unauthorized) and error.status == 401)


def _unless_refused(error: JumpCloudError) -> None:
    if not bearable(error):
        raise error


def _suspended_rows(answers: Iterable[tuple[UserRow | None, str]]) -> frozenset[str]:
    return frozenset(row.id for row, _ in answers if row is not None and row.status is Status.SUSPENDED)


def _suspended(users: Mapping[str, _Known]) -> frozenset[str]:
    return frozenset(user_id for user_id, (user, _) in users.items() if user.status is Status.SUSPENDED)


def _known(row: UserRow) -> _Known:
    return row.user(), row.unreadable


def _paths(ways: Ways | None) -> Paths:
    return _UNBOUND if ways is None else Paths(True, ways.direct, ways.groups, ways.unclear)


def _bound(user: User, ways: Ways, *, unsure: bool) -> User:
    return replace(user, direct=ways.direct, groups=ways.groups, teams_unknown=ways.unclear, unsure=unsure)


def _named_in(names: Iterable[str], folded: Collection[str]) -> bool:
    return any(normal(name).casefold() in folded for name in names)


def _not_found(wanted: str, labels: Iterable[str]) -> ApplicationNotFound:
    known = tuple(sorted(filter(None, labels)))
    folded = {label.casefold(): label for label in known}
    alike = [label for fold, label in folded.items() if wanted.casefold() in fold]
    close = [folded[fold] for fold in difflib.get_close_matches(wanted.casefold(), folded, NEAR)]
    return ApplicationNotFound(wanted, tuple(dict.fromkeys([*alike, *close]))[:NEAR], known)
