"""What JumpCloud answers: the parts of its replies that are read, checked one by one, and what they mean.

Sources: JumpCloud's API descriptions (V1 and V2) and its support pages; where neither says, the comment says
"assumed". An error names a record by its id and the place in it; it never repeats what stands there.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from reconciler import addresses
from reconciler.http import HttpError, Reply
from reconciler.model import Application, Group, Status, User, is_jumpcloud_id, normal, trimmed

WORDS = 200
"""Characters of JumpCloud's own words that an error repeats."""
LABELS = 20
"""How many labels an error lists."""

_SECRET = re.compile(r"[A-Za-z0-9_+/=.-]{32,}")

M = TypeVar("M", bound=BaseModel)


class JumpCloudError(Exception):
    """JumpCloud gave no clear answer, and nothing is concluded from it. The text is for the administrator."""

    def __init__(self, problem: str, advice: str) -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(problem, advice)

    def __str__(self) -> str:
        return f"{self.problem}. Nothing was changed in Keeper because of it. {self.advice}"


class Unavailable(JumpCloudError):
    """No usable answer at all: the network, the rate, a failure of the service. `status` is None without a reply."""

    def __init__(self, error: HttpError) -> None:
        self.status = error.status
        super().__init__(_problem(error), error.advice)


class Unauthorized(JumpCloudError):
    """The credentials are not accepted (`status` 401), or do not permit this (403).

    A reply 401 counts as 403 where another read with the same credentials succeeds.
    """

    def __init__(self, problem: str, advice: str, status: int) -> None:
        self.status = status
        super().__init__(problem, advice)


class UnexpectedReply(JumpCloudError):
    """A reply that is not what JumpCloud documents, or a status that is no answer here; then `status` is set."""

    def __init__(self, problem: str, advice: str = "", status: int | None = None) -> None:
        self.status = status
        super().__init__(problem, advice or "If it stays so, report it: JumpCloud's interface may have changed.")


class ApplicationNotFound(JumpCloudError):
    """No application goes by the configured id or label; `labels` are those of the applications there are."""

    def __init__(self, wanted: str, near: tuple[str, ...], labels: tuple[str, ...]) -> None:
        self.wanted = wanted
        self.near = near
        self.labels = labels
        there = "These credentials see none at all: check the administrator's role, and jumpcloud.organization."
        if labels:
            more = f" and {len(labels) - LABELS} more" if len(labels) > LABELS else ""
            there = f"There are: {', '.join(map(repr, labels[:LABELS]))}{more}."
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        super().__init__(
            f"JumpCloud has no application with the id or display label {wanted!r} (jumpcloud.application)",
            f"{there}{hint}",
        )


class ApplicationAmbiguous(JumpCloudError):
    """Several applications have the configured label; `ids` are theirs."""

    def __init__(self, wanted: str, ids: tuple[str, ...]) -> None:
        self.wanted = wanted
        self.ids = ids
        super().__init__(
            f"{len(ids)} JumpCloud applications have the display label {wanted!r}: {', '.join(ids)}",
            "Put the id of the right one into jumpcloud.application.",
        )


class ApplicationInactive(JumpCloudError):
    """The application is switched off, so that its bindings say nothing about who should have access."""

    def __init__(self, application: Application) -> None:
        self.application = application
        super().__init__(
            f"the JumpCloud application {application.label!r} ({application.id}) is not active",
            "Activate it in JumpCloud, or name another one in jumpcloud.application.",
        )


class PersonAmbiguous(JumpCloudError):
    """Several users have the address; `ids` are theirs."""

    def __init__(self, email: str, ids: tuple[str, ...]) -> None:
        self.email = email
        self.ids = ids
        super().__init__(
            f"{len(ids)} JumpCloud users have the address {email!r}: {', '.join(ids)}",
            "Correct the address of all but one of them in JumpCloud.",
        )


class IncompleteRead(JumpCloudError):
    """A read that does not add up."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            problem,
            "The next cycle reads again; if it stays so, look for objects in JumpCloud that were just deleted, and "
            "whether the administrator's role may read all users and groups.",
        )


def checked_id(text: str) -> str:
    """The id itself; JumpCloudError where it can't be one, so that nothing else is ever put into a path."""
    if not is_jumpcloud_id(text):
        raise JumpCloudError(f"{text[:80]!r} is not the id of a JumpCloud user", "Ids are 24 hexadecimal digits.")
    return text


ObjectId = Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")


R = TypeVar("R", bound="Row")


class Row(_Reply):
    """A record of a list: V1 calls its id `_id`, V2 `id`.

    A field in `LENIENT` that can't be read counts as not set; `unreadable` names it. Any other makes the row unusable.
    """

    id: ObjectId = Field(validation_alias=AliasChoices("_id", "id"))

    LENIENT: ClassVar[frozenset[str]] = frozenset()

    # No private attribute of pydantic's, which takes as long as reading the row does.
    _unreadable: ClassVar[frozenset[str]] = frozenset()

    @property
    def unreadable(self) -> frozenset[str]:
        """The fields whose value is not as documented."""
        return self._unreadable

    @property
    def unusable(self) -> bool:
        """Whether what the row is read for can't be told from it."""
        return False

    @classmethod
    def read(cls, row: Any) -> Self | None:
        """The row with what can be read of it; None where that is not enough."""
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
        names = frozenset(str(one["loc"][0]) if one["loc"] else "" for one in found)
        if not names <= cls.LENIENT:
            return None
        rest = cls.model_validate({name: value for name, value in row.items() if name not in names})
        rest.__dict__["_unreadable"] = names
        return rest


class UserRow(Row):
    """A user. A value that is not set is an empty text, null or absent."""

    email: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    displayname: str | None = None
    state: str | None = None
    suspended: bool | None = None

    FIELDS: ClassVar[str] = "email firstname lastname displayname state suspended"
    LENIENT: ClassVar[frozenset[str]] = frozenset(FIELDS.split())

    @property
    def unreadable(self) -> frozenset[str]:
        """The fields whose value is not as documented: also a state that nobody knows, or none at all.

        Where one of the two fields about access says suspended, the other decides nothing, and is not told.
        """
        if self.status is Status.SUSPENDED:
            return self._unreadable - {"state", "suspended"}
        untold = self.status is Status.UNKNOWN and self._unreadable.isdisjoint(("state", "suspended"))
        return self._unreadable | {"state"} if untold else self._unreadable

    @property
    def unusable(self) -> bool:
        """Whether the state can't be read, or there is none; a state of an unknown name can."""
        unreadable = not self._unreadable.isdisjoint(("state", "suspended"))
        return unreadable or not (self._word or self.suspended is not None)

    @property
    def status(self) -> Status:
        """The state as far as access depends on it; `account_locked` and `activated` have no effect.

        Replies without `state` exist: then `suspended` decides. Where neither is there, or one can't be read and the
        other does not say suspended, nothing is known.
        """
        if self.suspended or self._word == "SUSPENDED":
            return Status.SUSPENDED
        if self.unusable:
            return Status.UNKNOWN
        return _STATES.get(self._word, Status.UNKNOWN) if self._word else Status.ACTIVE

    def filled(self, other: "UserRow") -> "UserRow":
        """The row, with what another reading shows of the fields that it lacks or that can't be read. Itself where the
        two differ about access: then one of them is behind, and nobody knows which."""
        differ = self._word in _STATES and other._word not in ("", self._word)
        if differ or {self.suspended, other.suspended} == {True, False}:
            return self
        told = {"state": self._word in _STATES, "suspended": self.suspended is not None}
        lacking = {name for name in self.LENIENT if not told.get(name, name in self.model_fields_set)}
        row = self.model_copy(update={name: getattr(other, name) for name in lacking})
        row.__dict__["_unreadable"] = other._unreadable & lacking
        return row

    @property
    def _word(self) -> str:
        """The state, in whichever case it is written."""
        return (self.state or "").strip().upper()

    def user(self) -> User:
        """The user, normalised, bound to nothing."""
        return User(
            self.id,
            usable_address(self.email),
            self.status,
            normal(self.displayname),
            normal(self.firstname),
            normal(self.lastname),
        )

    def has_address(self, email: str) -> bool:
        """Whether the user's address is this one, or alike."""
        return bool(self.email) and addresses.alike(self.email or "", email)


_STATES = {"ACTIVATED": Status.ACTIVE, "STAGED": Status.STAGED, "SUSPENDED": Status.SUSPENDED}


class ApplicationRow(Row):
    """An application. `displayLabel` is what the administrator typed, `displayName` the template's name."""

    name: str | None = None
    displayName: str | None = None
    displayLabel: str | None = None
    active: bool | None = None
    # It goes into the state file and into messages as it is.
    organization: str | None = Field(default=None, pattern=r"^(?:[0-9a-f]{24})?$")

    FIELDS: ClassVar[str] = "name displayName displayLabel active organization"
    LENIENT: ClassVar[frozenset[str]] = frozenset(FIELDS.split())

    @property
    def label(self) -> str:
        """The label that the console shows: the typed one, else the template's name; empty where the one that counts
        can't be read."""
        for field in ("displayLabel", "displayName", "name"):
            text = normal(getattr(self, field))
            if text or field in self._unreadable:
                return text
        return ""


class GroupRow(Row):
    """A user group."""

    name: str | None = None

    LENIENT: ClassVar[frozenset[str]] = frozenset({"name"})

    @property
    def unusable(self) -> bool:
        """Whether the name can't be read; an empty one can."""
        return bool(self._unreadable)

    def group(self) -> Group:
        """The group; its name is empty where it has none that can be used, as no team can be called that."""
        return Group(self.id, normal(self.name), self.name or "")


class _Node(_Reply):
    id: ObjectId
    type: str


class _Edge(_Reply):
    to: _Node


class _Path(_Reply):
    edges: list[_Edge] = Field(min_length=1)


class GraphRow(Row):
    """An object of the graph, with the paths that lead to it from the object asked about. Its type is empty where that
    can't be read."""

    type: str = ""
    paths: list[Any] | None = None

    LENIENT: ClassVar[frozenset[str]] = frozenset({"type", "paths"})

    @property
    def unusable(self) -> bool:
        """Whether one of the paths can't be read."""
        return self.ways.unclear

    @cached_property
    def ways(self) -> "Ways":
        """How the two ends are tied to each other.

        A path leaves its start out and ends at this object: of length one it is direct, otherwise it leads through a
        group. Paths through more than one group have not been seen; every user group on them counts, so that no
        membership is dropped. Where no path can be read the tie itself still stands, and counts as direct; a path that
        can't be read, ends elsewhere or leads through something else makes the groups `unclear`, and so does a tie
        without any path.
        """
        groups: set[str] = set()
        direct, unclear = False, bool(self._unreadable)
        for path in self.paths or ():
            nodes = _nodes(path)
            if nodes is None or nodes[-1].id != self.id:
                unclear = True
                continue
            through = [node.id for node in nodes[:-1] if node.type == "user_group"]
            unclear |= len(through) < len(nodes) - 1
            groups.update(through)
            direct |= len(nodes) == 1
        return Ways(direct or not groups, frozenset(groups), unclear or not (direct or groups))


def _nodes(path: Any) -> list[_Node] | None:
    """The nodes of a path; None where it can't be read."""
    try:
        return [edge.to for edge in _Path.model_validate({"edges": path}).edges]
    except ValidationError:
        return None


class TokenReply(_Reply):
    """The access token of a service account (RFC 6749 section 5.1), and for how many seconds it is good."""

    access_token: SecretStr = Field(min_length=1)
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Ways:
    """How a user is bound to the application: without a group, and through which groups. `unclear`: it may be through
    others too, since a path can't be read."""

    direct: bool
    groups: frozenset[str]
    unclear: bool = False

    def __or__(self, other: "Ways") -> "Ways":
        return Ways(self.direct or other.direct, self.groups | other.groups, self.unclear or other.unclear)


def usable_address(text: str | None) -> str:
    """The address, trimmed; empty where it can't be one: not exactly one @, white space, invisible letters."""
    address = trimmed(text)
    local, _, domain = address.partition("@")
    odd = any(char.isspace() or char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf") for char in address)
    return address if local and domain and "@" not in domain and not odd else ""


def parsed(model: type[M], row: Any, what: str) -> M:
    """One document of a reply; UnexpectedReply names it by its id and where it is wrong."""
    try:
        return model.model_validate(row)
    except ValidationError as error:
        [first, *_] = error.errors(include_input=False, include_url=False, include_context=False)
        where = ".".join(str(part) for part in first["loc"]) or "the record itself"
    known = (row.get("_id") or row.get("id")) if isinstance(row, dict) else None
    who = f" {known}" if isinstance(known, str) and is_jumpcloud_id(known) else ""
    # Raised out here so that the record does not hang on the error as the context of a ValidationError.
    raise UnexpectedReply(f"JumpCloud's reply about {what}{who} is not as documented, at {where}")


def record(model: type[R], row: Any, what: str) -> R:
    """One record of a reply, with what can be read of it; UnexpectedReply as for `parsed` where that is too little."""
    return model.read(row) or parsed(model, row, what)


def document(reply: Reply) -> Any:
    """The reply as JSON; UnexpectedReply where it is none."""
    try:
        return reply.json()
    except HttpError as error:
        problem, advice = _problem(error), error.advice
    raise UnexpectedReply(problem, advice, reply.status)


def _problem(error: HttpError) -> str:
    return str(error).removesuffix(error.advice).rstrip(". ")


def own_words(reply: Reply) -> str:
    """How a refusal explains itself: `message` or `error`, shortened, with nothing in it that may be a secret."""
    try:
        found = reply.json()
    except HttpError:
        return ""
    text = (found.get("message") or found.get("error")) if isinstance(found, Mapping) else None
    words = "".join(char if char.isprintable() else " " for char in text) if isinstance(text, str) else ""
    return _SECRET.sub("…", words)[:WORDS].strip()
