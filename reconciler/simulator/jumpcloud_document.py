"""The seed document of the simulated JumpCloud: JSON that `load` takes and `dump` gives."""

from collections.abc import Mapping
from typing import Any

from reconciler.simulator.jumpcloud_access import Access, Credential
from reconciler.simulator.jumpcloud_directory import Application, Group, Organization, User
from reconciler.simulator.jumpcloud_graph import Graph


def load(access: Access, document: Mapping[str, Any]) -> None:
    """Replace everything by a seed document. Ids may be left out; a user is then referred to by the e-mail
    address, a group by the name. ValueError for whatever the document should not hold."""
    try:
        # Ids below `issued` were given before the document was made: they are never given again.
        access.restart(int(document.get("issued", 0)))
        for one in document.get("organizations", []):
            organization = _organization(access, one)
            access.organizations[organization.id] = organization
        for one in document.get("api_keys", []):
            home = one.get("organization")
            access.api_keys[one["key"]] = Credential(home and access.organization(home).id)
        for one in document.get("service_accounts", []):
            home = access.organization(one["organization"]).id
            access.service_accounts[one["client_id"]] = Credential(home, one["client_secret"])
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"the seed document does not fit: {error!r}") from error


def _organization(access: Access, document: Mapping[str, Any]) -> Organization:
    home = Organization(document.get("id") or access.new_id(), document["name"])
    for row in document.get("users", []):
        values = {"id": row.get("id") or access.new_id(), "username": row["email"].partition("@")[0], **row}
        home.users[values["id"]] = User(**values)
    users = {user.email: user.id for user in home.users.values()} | {user: user for user in home.users}
    members: dict[str, list[str]] = {}
    for row in document.get("groups", []):
        values = {"id": row.get("id") or access.new_id(), "ldap_name": row["name"], **row}
        members[values["id"]] = [users[name] for name in values.pop("members", [])]
        home.groups[values["id"]] = Group(**values)
    groups = {group.name: group.id for group in home.groups.values()} | {group: group for group in home.groups}
    bound: dict[str, tuple[list[str], list[str]]] = {}
    for row in document.get("applications", []):
        values = {"id": row.get("id") or access.new_id(), **row}
        bound[values["id"]] = (
            [groups[name] for name in values.pop("groups", [])],
            [users[name] for name in values.pop("users", [])],
        )
        home.applications[values["id"]] = Application(**values)
    home.truth, home.shown = (_graph(home, members, bound) for _ in range(2))
    return home


def _graph(
    home: Organization, members: Mapping[str, list[str]], bound: Mapping[str, tuple[list[str], list[str]]]
) -> Graph:
    graph = Graph()
    graph.users, graph.groups, graph.applications = set(home.users), set(home.groups), set(home.applications)
    for group, users in members.items():
        for user in users:
            graph.join(group, user)
    for application, (groups, users) in bound.items():
        graph.bound_groups[application].update(groups)
        graph.bound_users[application].update(users)
    return graph


def dump(access: Access) -> dict[str, Any]:
    """The seed document of everything as it truly is; what the graph lists still lag behind is not in it."""
    with access.lock:
        return {
            "organizations": [_dump(home) for home in access.organizations.values()],
            "api_keys": [
                {"key": key, "organization": credential.organization} for key, credential in access.api_keys.items()
            ],
            "service_accounts": [
                {"client_id": client, "client_secret": one.client_secret, "organization": one.organization}
                for client, one in access.service_accounts.items()
            ],
            "issued": access.issued,
        }


def _fields(record: User | Group | Application) -> dict[str, Any]:
    """The fields of a record; `dataclasses.asdict` would copy each value, ten times slower."""
    return {name: getattr(record, name) for name in record.__slots__}


def _dump(home: Organization) -> dict[str, Any]:
    graph = home.truth
    return {
        "id": home.id,
        "name": home.name,
        "users": [_fields(user) for user in home.users.values()],
        "groups": [{**_fields(group), "members": sorted(graph.members[group.id])} for group in home.groups.values()],
        "applications": [
            {
                **_fields(one),
                "groups": sorted(graph.bound_groups[one.id]),
                "users": sorted(graph.bound_users[one.id]),
            }
            for one in home.applications.values()
        ],
    }
