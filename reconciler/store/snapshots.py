"""The binding of the state file, and the snapshot of what Keeper holds."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

from reconciler import keeper_quarantine
from reconciler.inventory import from_json, to_json
from reconciler.merge import merged
from reconciler.model import EXTERNAL_ID, Account, Failure, Inventory, OddRecord, RefusedBirth, Snapshot, Team, Unclear
from reconciler.promise import NOT_HERE
from reconciler.rows import (
    ACCOUNT_COLUMNS,
    State,
    account_row,
    accounts_of,
    json_text,
    membership_row,
    team_of,
    team_row,
    time_of,
    time_text,
)
from reconciler.statefile_errors import WrongBinding
from reconciler.store.access import locked_out, own_locks, refused_births, refused_teams
from reconciler.store.base import OpenFile, former_operations, meta, rows

R = TypeVar("R", Account, Team)
_MEMBERSHIPS = '"user", team, ours, seen, shown, asked_at, found'
_PORTION = 500
"""Rows that one query asks for by their ids."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a state file belongs to: one organisation, one application in it, one Keeper node (its SCIM address)."""

    organization: str
    application_id: str
    keeper: str


_BINDING_WORDS = {
    "organization": "JumpCloud organisation",
    "application_id": "JumpCloud application",
    "keeper": "Keeper node",
}

_OF_THIS_NODE = """
    SELECT keeper_id FROM operations
    WHERE id > coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'former_operations'), 0)
"""
_OPEN_LOCKS = f"""
    {_OF_THIS_NODE} AND kind = 'deactivate_user' AND state IN ('sent', 'unknown') AND NOT EXISTS (
        SELECT 1 FROM operations AS later WHERE later.subject_key = operations.subject_key
        AND later.id > operations.id AND later.kind = 'reactivate_user' AND later.state = 'done')
"""
_UNLOCKS = f"{_OF_THIS_NODE} AND kind = 'reactivate_user'"
_OPEN_UNLOCKS = f"{_UNLOCKS} AND state IN ('sent', 'unknown')"
# What became of one is not told where its account was gone by then.
_GONE_UNLOCKS = f"""
    {_UNLOCKS} AND state = 'put_off' AND outcome = 'settled'
    AND subject_key IN (SELECT jumpcloud_id FROM users WHERE gone = 1 AND locked_by_us = 1)
    AND keeper_id IN (SELECT keeper_id FROM users WHERE gone = 1)
"""
_NOT_LOCKED_SINCE = f"""
    NOT EXISTS (
        SELECT 1 FROM operations AS later WHERE later.subject_key = operations.subject_key
        AND later.id > operations.id AND later.kind = 'deactivate_user' AND later.state = 'done'
        AND later.error <> '{NOT_HERE}')
"""
_LAST_UNLOCKS = f"{_OPEN_UNLOCKS} AND {_NOT_LOCKED_SINCE} UNION {_GONE_UNLOCKS} AND {_NOT_LOCKED_SINCE}"
_ACTIVE = f"""
    standing = 'managed' AND gone = 0 AND jumpcloud_id <> '' AND (active = 1 OR keeper_id IN ({_OPEN_UNLOCKS}))
"""
"""Whoever is active in Keeper, or may be since we let them in and had no answer."""


class Snapshots(OpenFile):
    """What the file belongs to, and what Keeper held when we last spoke to it."""

    # The binding

    def binding(self) -> Binding | None:
        """What the file is bound to, None as long as nothing was."""
        with self._reading() as connection:
            text = meta(connection, "binding")
            return Binding(**json.loads(text)) if text else None

    def check(self, binding: Binding) -> None:
        """Raise `WrongBinding` if the file is bound to something else; an unbound file passes."""
        found = self.binding()
        if found is None or found == binding:
            return
        settings = asdict(binding)
        differing = [
            f"{_BINDING_WORDS[key]} {value or '(none)'!s:.200}, while the settings lead to {settings[key] or '(none)'}"
            for key, value in asdict(found).items()
            if value != settings[key]
        ]
        raise WrongBinding(self.path, "it belongs to " + "; and to ".join(differing))

    def bind(self, binding: Binding) -> None:
        """Bind an unbound file; raises `WrongBinding` if it is bound to something else."""
        self.check(binding)
        self.set_meta("binding", json_text(asdict(binding)))

    def rebind(self, binding: Binding, at: datetime) -> None:
        """Bind the file anew: the snapshot, the canaries and the review are forgotten, the history is kept.

        What was left unfinished towards the former node is closed, and what the journal knows of failures and
        unsettled teams no longer counts. Open releases and announcements lapse, and nothing is held any more.
        """
        with self._tx() as connection:
            for table in ("users", "teams", "memberships"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute(
                "DELETE FROM meta WHERE key IN "
                "('canaries', 'suspected_kinds', 'links', 'reviewed', 'teams_open', 'read_at', 'inventory', 'unclear', "
                "'odd')"
            )
            for former, state in ((State.PLANNED, State.PUT_OFF), (State.SENT, State.UNKNOWN)):
                connection.execute(
                    "UPDATE operations SET state = ?, finished_at = ?, outcome = ?, error = ? WHERE state = ?",
                    (state, time_text(at), "rebound", "the state file was bound to something else", former),
                )
            connection.execute(
                "UPDATE requests SET state = 'lapsed', closed_at = ? "
                "WHERE state = 'open' AND kind IN ('release', 'allow')",
                (time_text(at),),
            )
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM operations").fetchone()
            self._set_meta("former_operations", str(last))
            holding = "SELECT coalesce(max(id), 0) FROM runs WHERE held > 0"
            self._set_meta("former_runs", str(*connection.execute(holding).fetchone()))
            self._set_meta("binding", json_text(asdict(binding)))

    # The snapshot

    def snapshot(self) -> Snapshot:
        """What Keeper held when we last spoke to it, with what the journal knows of failures and unsettled teams."""
        with self._reading() as connection:
            teams = map(team_of, rows(connection, "SELECT * FROM teams"))
            former = former_operations(connection)
            return Snapshot(
                accounts=accounts_of(
                    connection.execute(f"SELECT {ACCOUNT_COLUMNS} FROM users"),
                    connection.execute(f"SELECT {_MEMBERSHIPS} FROM memberships"),
                ),
                teams={team.keeper_id: team for team in teams},
                unsettled_teams=_unsettled_teams(connection, former),
                unsettled_users=_unsettled_users(connection, former),
                refused_births=refused_births(connection, former),
                refused_teams=refused_teams(connection, former),
                own_locks=own_locks(connection, former),
                open_locks=frozenset(keeper_id for (keeper_id,) in connection.execute(_OPEN_LOCKS)),
                open_unlocks=frozenset(keeper_id for (keeper_id,) in connection.execute(_LAST_UNLOCKS)),
                locked_out=locked_out(connection, former),
                failures=_failures(connection, former),
                reviewed=meta(connection, "reviewed") == "1",
                teams_open=meta(connection, "teams_open") == "1",
                read_at=time_of(meta(connection, "read_at")),
                unclear=_unclear(meta(connection, "unclear")),
                inventory=from_json(kept) if (kept := meta(connection, "inventory")) else None,
                odd=keeper_quarantine.from_json(meta(connection, "odd") or "[]"),
            )

    def reviewed(self) -> bool:
        """Whether a person has looked at the first plan for this node."""
        return self.meta("reviewed") == "1"

    def active_ids(self) -> frozenset[str]:
        """The JumpCloud ids of managed people who are active in Keeper, or may be since an unlock without an answer."""
        sql = f"SELECT jumpcloud_id FROM users WHERE {_ACTIVE}"
        with self._reading() as connection:
            return frozenset(user_id for (user_id,) in connection.execute(sql))

    def active_accounts(self, user_ids: Collection[str]) -> list[Account]:
        """The accounts of those of these JumpCloud users whom `active_ids` has."""
        found: list[str] = []
        with self._reading() as connection:
            for ids in _portions(sorted(user_ids)):
                places = ", ".join("?" * len(ids))
                sql = f"SELECT keeper_id FROM users WHERE {_ACTIVE} AND jumpcloud_id IN ({places})"
                found += [keeper_id for (keeper_id,) in connection.execute(sql, ids)]
            return list(self._accounts(found).values())

    def suspended_ids(self) -> frozenset[str]:
        """The JumpCloud ids of managed people who were locked since they were suspended, and still are."""
        sql = """
            SELECT jumpcloud_id FROM users WHERE active = 0 AND locked_by_us = 1 AND jumpcloud_id IN (
                SELECT jumpcloud_id FROM operations
                WHERE state = 'done' AND kind = 'deactivate_user' AND rule = 'suspended')
        """
        with self._reading() as connection:
            return frozenset(user_id for (user_id,) in connection.execute(sql))

    def keep_inventory(self, inventory: Inventory | None) -> None:
        """Keep what the inventory command printed last, or forget it."""
        with self._tx() as connection:
            if inventory is None:
                connection.execute("DELETE FROM meta WHERE key = 'inventory'")
            else:
                self._set_meta("inventory", to_json(inventory))

    def save(
        self, snapshot: Snapshot, before: Snapshot, mark: int | None = None, settled: Collection[int] = frozenset()
    ) -> None:
        """Write what differs between the two; `before` is what the file held, as `snapshot` gave it or `save` got it.

        `mark` is that of `hands` when `before` was read. What a cycle beside this one has written since stays, field by
        field. What is unsettled, the `failures`, the refused births (of teams too) and our own locks come from the
        journal and are not written, nor is the inventory. An account, team or odd record that has got the id of
        somebody whose creation is open stays as it was, but for creations that are `settled` (journal ids) with this:
        whether Keeper linked that is still to be found out, by what was there before.
        """

        def touched(keeper_id: str) -> bool:
            return mark is not None and self.hands.changed_since(mark, keeper_id)

        with self._tx():
            open_births = self.open_births(settled)
            accounts = _differing(snapshot.accounts, before.accounts, open_births)
            teams = _differing(snapshot.teams, before.teams, open_births)
            lost_accounts = before.accounts.keys() - snapshot.accounts.keys()
            lost_teams = before.teams.keys() - snapshot.teams.keys()
            there = self._accounts([*(row.keeper_id for row in accounts), *lost_accounts])
            self._put_accounts(_merged(accounts, before.accounts, there, touched), there)
            self._drop_accounts(k for k in lost_accounts if there.get(k) == before.accounts[k])
            teams_there = self._teams([*(row.keeper_id for row in teams), *lost_teams])
            self._put_teams(_merged(teams, before.teams, teams_there, touched))
            self._drop_teams(k for k in lost_teams if teams_there.get(k) == before.teams[k])
            if snapshot.reviewed != before.reviewed:
                self._set_meta("reviewed", "1" if snapshot.reviewed else "0")
            if snapshot.teams_open != before.teams_open:
                self._set_meta("teams_open", "1" if snapshot.teams_open else "0")
            if snapshot.unclear != before.unclear:
                kept = {key: [time_text(one.since), one.name, one.words] for key, one in snapshot.unclear.items()}
                self._set_meta("unclear", json_text(kept))
            if (odd := _odd(snapshot, before, open_births)) != before.odd:
                self._set_meta("odd", keeper_quarantine.to_json(odd))
            if snapshot.read_at != before.read_at and snapshot.read_at is not None:
                self._set_meta("read_at", time_text(snapshot.read_at))

    def open_births(self, settled: Collection[int] = frozenset()) -> frozenset[str]:
        """The ids of people and groups whose creation was sent and has no known outcome, but for those `settled`."""
        sql = """
            SELECT id, jumpcloud_id FROM operations
            WHERE kind IN ('create_user', 'queue_team') AND state IN ('sent', 'unknown') AND id > ?
        """
        with self._reading() as connection:
            found = connection.execute(sql, (former_operations(connection),))
            return frozenset(key for number, key in found if number not in settled)

    def account(self, keeper_id: str) -> Account | None:
        """One account as it is now."""
        with self._reading():
            return self._accounts([keeper_id]).get(keeper_id)

    def refused_births(self) -> Mapping[str, RefusedBirth]:
        """The creations that Keeper linked to an account which is not new, as `Snapshot` has them, those of this run
        too."""
        with self._reading() as connection:
            return refused_births(connection, former_operations(connection))

    def team(self, keeper_id: str) -> Team | None:
        """One team as it is now."""
        with self._reading():
            return self._teams([keeper_id]).get(keeper_id)

    def _accounts(self, keeper_ids: Sequence[str]) -> dict[str, Account]:
        found: dict[str, Account] = {}
        for ids in _portions(keeper_ids):
            places = ", ".join("?" * len(ids))
            found |= accounts_of(
                self._connection.execute(f"SELECT {ACCOUNT_COLUMNS} FROM users WHERE keeper_id IN ({places})", ids),
                self._connection.execute(f'SELECT {_MEMBERSHIPS} FROM memberships WHERE "user" IN ({places})', ids),
            )
        return found

    def _teams(self, keeper_ids: Sequence[str]) -> dict[str, Team]:
        found: dict[str, Team] = {}
        for ids in _portions(keeper_ids):
            sql = f"SELECT * FROM teams WHERE keeper_id IN ({', '.join('?' * len(ids))})"
            found |= {team.keeper_id: team for team in map(team_of, rows(self._connection, sql, *ids))}
        return found

    def put(
        self,
        accounts: Iterable[Account] = (),
        teams: Iterable[Team] = (),
        drop_accounts: Iterable[str] = (),
        drop_teams: Iterable[str] = (),
    ) -> None:
        """Write these rows whatever was there, and delete those with these Keeper ids."""
        with self._tx():
            self._put(accounts, teams, drop_accounts, drop_teams)

    def _put(
        self,
        accounts: Iterable[Account],
        teams: Iterable[Team],
        drop_accounts: Iterable[str],
        drop_teams: Iterable[str],
    ) -> None:
        accounts = list(accounts)
        self._connection.executemany(
            'DELETE FROM memberships WHERE "user" = ?', [(account.keeper_id,) for account in accounts]
        )
        self._put_accounts(accounts, {})
        self._drop_accounts(drop_accounts)
        self._put_teams(teams)
        self._drop_teams(drop_teams)

    def _put_accounts(self, accounts: Iterable[Account], before: Mapping[str, Account]) -> None:
        accounts = list(accounts)
        self._replace("users", map(account_row, accounts))
        gone: list[tuple[str, str]] = []
        changed: list[dict[str, Any]] = []
        for account in accounts:
            old = before.get(account.keeper_id)
            known = old.memberships if old else {}
            gone += [(account.keeper_id, team) for team in known if team not in account.memberships]
            changed += [
                membership_row(account.keeper_id, team, membership)
                for team, membership in account.memberships.items()
                if known.get(team) != membership
            ]
        self._connection.executemany('DELETE FROM memberships WHERE "user" = ? AND team = ?', gone)
        self._replace("memberships", changed)

    def _drop_accounts(self, keeper_ids: Iterable[str]) -> None:
        ids = [(keeper_id,) for keeper_id in keeper_ids]
        self._connection.executemany('DELETE FROM memberships WHERE "user" = ?', ids)
        self._connection.executemany("DELETE FROM users WHERE keeper_id = ?", ids)

    def _put_teams(self, teams: Iterable[Team]) -> None:
        self._replace("teams", map(team_row, teams))

    def _drop_teams(self, keeper_ids: Iterable[str]) -> None:
        self._connection.executemany("DELETE FROM teams WHERE keeper_id = ?", [(i,) for i in keeper_ids])


def _differing(rows: Mapping[str, R], before: Mapping[str, R], open_births: Set[str]) -> list[R]:
    # Identity first: what nobody touched is the same object, and there may be 100,000 of them.
    found = ((row, old) for key, row in rows.items() if (old := before.get(key)) is not row and old != row)
    return [row for row, old in found if _id_on(row) == _id_on(old) or _id_on(row) not in open_births]


def _odd(snapshot: Snapshot, before: Snapshot, open_births: Set[str]) -> tuple[OddRecord, ...]:
    former = {(one.type, one.keeper_id): one for one in before.odd if one.keeper_id}
    pairs = ((one, former.get((one.type, one.keeper_id), one)) for one in snapshot.odd)
    return tuple(
        old if one.external_id in open_births and one.external_id != old.external_id else one for one, old in pairs
    )


def _id_on(row: Account | Team | None) -> str:
    return row.shown.get(EXTERNAL_ID, "") if row is not None else ""


def _merged(
    wanted: Iterable[R], before: Mapping[str, R], current: Mapping[str, R], touched: Callable[[str], bool]
) -> list[R]:
    rows = (
        merged(row, before.get(row.keeper_id), current.get(row.keeper_id), touched=touched(row.keeper_id))
        for row in wanted
    )
    return [row for row in rows if row is not None]


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _PORTION] for start in range(0, len(ids), _PORTION))


def _unclear(text: str | None) -> dict[str, Unclear]:
    """Read the quarantine, by its keys."""
    found: dict[str, list[str]] = json.loads(text or "{}")
    return {key: Unclear(datetime.fromisoformat(since), name, words) for key, (since, name, words) in found.items()}


def _failures(connection: sqlite3.Connection, former: int) -> dict[str, Failure]:
    """By subject, the failures since its last success. A creation that Keeper answered with another account or team is
    none: it waits for a person and is not repeated; nor is an unlocking of somebody who is gone: they are created anew;
    nor the creation of somebody who has an account by now. What was found out later has failed when it was sent."""
    sql = """
        SELECT subject_key, count(*), max(CASE WHEN outcome = 'settled' AND sent_at IS NOT NULL THEN sent_at
            ELSE finished_at END), error FROM operations AS failed
        WHERE state = 'failed' AND outcome <> 'linked_to_another'
            AND NOT (kind = 'reactivate_user' AND outcome = 'not_found' AND EXISTS (
                SELECT 1 FROM users WHERE keeper_id = failed.keeper_id AND gone = 1))
            AND NOT (kind = 'create_user' AND subject_key IN (
                SELECT jumpcloud_id FROM users WHERE standing = 'managed' AND gone = 0))
            AND id > ? AND id > coalesce(
            (SELECT max(id) FROM operations AS done WHERE state = 'done' AND subject_key = failed.subject_key), 0)
        GROUP BY subject_key
    """  # beside max(), SQLite takes `error` from the row with the maximum
    return {
        key: Failure(count, datetime.fromisoformat(at), error)
        for key, count, at, error in connection.execute(sql, (former,))
    }


def _unsettled_users(connection: sqlite3.Connection, former: int) -> dict[str, str]:
    """By JumpCloud id, the address for which somebody was asked for whose creation has no known outcome."""
    sql = """
        SELECT jumpcloud_id, subject_name FROM operations
        WHERE state IN ('sent', 'unknown') AND kind = 'create_user' AND id > ? ORDER BY id
    """
    return dict(connection.execute(sql, (former,)))


def _unsettled_teams(connection: sqlite3.Connection, former: int) -> dict[str, datetime]:
    """By JumpCloud id, when a team was asked for whose newest queueing has no known outcome."""
    sql = """
        SELECT jumpcloud_id, state, coalesce(sent_at, planned_at), max(id) FROM operations
        WHERE kind = 'queue_team' AND id > ? AND state NOT IN ('planned', 'put_off')
        GROUP BY jumpcloud_id
    """
    return {
        key: datetime.fromisoformat(at)
        for key, state, at, _ in connection.execute(sql, (former,))
        if state in (State.SENT, State.UNKNOWN)
    }
