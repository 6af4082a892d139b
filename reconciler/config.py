"""The settings: one TOML file, checked as a whole, every problem told at once with its line.

Loading reads that file and nothing else: secrets stay references until they are needed (see `Secret.resolve`). The
pure core never sees this module, it gets a `Policy` and `Limits`.
"""

import contextlib
import difflib
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from reconciler import settings_fields as kinds
from reconciler.addresses import alike_key
from reconciler.counting import count
from reconciler.policy import (
    AddressChange,
    Drift,
    FirstRun,
    Limits,
    Mode,
    OutOfScope,
    Pilot,
    Policy,
    Reactivate,
    TeamAdoption,
    TeamOutOfScope,
    TeamPolicy,
)
from reconciler.secrets import Secret, SecretError, looks_secret
from reconciler.toml_lines import Key, key_lines

SYSTEM_DIRECTORY = Path("/etc/reconciler")
"""Where the settings of services are: `config.toml`, or `NAME.toml` for each of several tenants."""

SYSTEM_STATE = Path("/var/lib/reconciler")
"""Where services keep their state."""
STATE_NAME = "reconciler.db"

_MAX_BYTES = 1 << 20
_MAX_PROBLEMS = 50
# The parser takes time by the square of a key's parts. A quoted part may hold escaped quotes.
_TOO_MANY_PARTS = re.compile(r"""(?<![\w"'.-])(?:(?:[\w-]++|"(?:\\.|[^"\\\n])*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){50}""")
_POLICY = Policy()
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the settings: what was found where, what is allowed, and a hint; never a secret."""

    file: Path
    line: int | None
    key: str
    found: str
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """One line of text, `config.toml:8: schedule.interval: found ..., allowed: ... (hint)`."""
        place = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        text = ": ".join(part for part in (place, self.key, self.found) if part)
        text += f", allowed: {self.allowed}" if self.allowed else ""
        return f"{text} ({self.hint})" if self.hint else text


class SettingsError(Exception):
    """The settings can't be used. The text has one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """All problems, in the order of the file."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _derived(prefix: str, found: dict[str, Any]) -> str | None:
    base_url = found.get("base_url")
    return kinds.jumpcloud_host(prefix, base_url) if base_url else None


class JumpCloudSection(_Section):
    """Where the scope is read, and as whom: an administrator's `api_key`, or the `client_*` of a service account."""

    application: Annotated[str, kinds.text_check("the application's id or display label", r".*\S.*")] = "Keeper"
    base_url: kinds.ConsoleUrl = "https://console.jumpcloud.com"
    client_id: Annotated[str | None, kinds.text_check("the service account's client id", r"\S+")] = None
    client_secret: kinds.SecretField | None = Field(
        default_factory=lambda found: (
            Secret("credential", "jumpcloud-client-secret") if found.get("client_id") else None
        )
    )
    api_key: kinds.SecretField | None = Field(
        default_factory=lambda found: None if found.get("client_id") else Secret("credential", "jumpcloud-api-key")
    )
    organization: Annotated[str | None, kinds.text_check("24 hexadecimal digits", "[0-9a-fA-F]{24}")] = None
    oauth_url: kinds.Url = Field(default_factory=lambda found: _derived("admin-oauth.id", found), validate_default=True)
    insights_url: kinds.Url = Field(default_factory=lambda found: _derived("api", found))
    in_flight: Annotated[int, kinds.whole(1, 64)] = 4

    @field_validator("client_secret")
    @classmethod
    def _secret_with_id(cls, secret: Secret, info: ValidationInfo) -> Secret:
        if info.data.get("client_id", "") is None:
            raise kinds.refuse("client_secret together with client_id", found="no client_id")
        return secret

    @field_validator("api_key")
    @classmethod
    def _one_way_to_log_in(cls, key: Secret, info: ValidationInfo) -> Secret:
        if info.data.get("client_id"):
            raise kinds.refuse("one of the two", found="client_id beside it", hint="remove the one that is not used")
        return key

    @field_validator("oauth_url")
    @classmethod
    def _somewhere_to_log_in(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None and info.data.get("client_id") and "base_url" in info.data:
            raise kinds.refuse(
                "https://HOST", found="missing", hint="with client_id, where base_url is none of JumpCloud's own"
            )
        return url


class KeeperSection(_Section):
    """The SCIM endpoint of one Keeper node."""

    scim_url: kinds.ScimUrl
    token: kinds.SecretField = Secret("credential", "keeper-scim-token")
    inventory_command: kinds.Command = ()
    in_flight: Annotated[int, kinds.whole(1, 64)] = 8


class ScheduleSection(_Section):
    """When the daemon runs a cycle. `resync` is the time between two, or the local time of a daily one."""

    interval: Annotated[timedelta, kinds.duration("1s", "1d")] = timedelta(minutes=5)
    jitter: Annotated[timedelta, kinds.duration("0s", "1h")] = timedelta(seconds=30)
    resync: Annotated[timedelta | time, kinds.duration_or_time("1s", "7d")] = timedelta(hours=1)


class PilotSection(_Section):
    """Whom operations are sent for, while the rest is only planned."""

    groups: kinds.Names = ()
    users: kinds.Addresses = ()


class PolicySection(_Section):
    """See `policy.Policy`. `protect` is None where the settings don't have it."""

    mode: Annotated[Mode, kinds.choice(Mode)] = _POLICY.mode
    protect: kinds.Addresses | None = None
    only: PilotSection | None = None
    out_of_scope: Annotated[OutOfScope, kinds.choice(OutOfScope)] = _POLICY.out_of_scope
    grace: Annotated[timedelta, kinds.duration("0s", "365d")] = _POLICY.grace
    drift: Annotated[Drift, kinds.choice(Drift)] = _POLICY.drift
    reactivate: Annotated[Reactivate, kinds.choice(Reactivate)] = _POLICY.reactivate
    address_change: Annotated[AddressChange, kinds.choice(AddressChange)] = _POLICY.address_change

    @field_validator("only")
    @classmethod
    def _somebody(cls, only: PilotSection) -> PilotSection:
        if not only.groups and not only.users:
            raise kinds.refuse(
                '{ groups = ["NAME"], users = ["ADDRESS"] }',
                found="nobody in it",
                hint="without a pilot, remove the key",
            )
        return only


class TeamsSection(_Section):
    """See `policy.TeamPolicy`. What waits for approval longer than `queue_age` is announced."""

    manage: kinds.Boolean = _POLICY.teams.manage
    include: kinds.Patterns = _POLICY.teams.include
    exclude: kinds.Patterns = _POLICY.teams.exclude
    adopt: Annotated[TeamAdoption, kinds.choice(TeamAdoption)] = _POLICY.teams.adopt
    review: kinds.Patterns = _POLICY.teams.review
    out_of_scope: Annotated[TeamOutOfScope, kinds.choice(TeamOutOfScope)] = _POLICY.teams.out_of_scope
    role_prefix: Annotated[str, kinds.text_check("the beginning of group names", ".*")] = _POLICY.teams.role_prefix
    queue_age: Annotated[timedelta, kinds.duration("1m", "365d")] = timedelta(hours=4)
    approve_command: kinds.Command = ()


class SafetySection(_Section):
    """See `policy.Limits`."""

    window: Annotated[timedelta, kinds.duration("1m", "30d")] = _LIMITS.window
    first_run: Annotated[FirstRun, kinds.choice(FirstRun)] = _LIMITS.first_run
    max_deactivations: kinds.LimitField = _LIMITS.max_deactivations
    max_removals: kinds.LimitField = _LIMITS.max_removals
    max_team_loss: kinds.LimitField = _LIMITS.max_team_loss
    max_creations: kinds.LimitField = _LIMITS.max_creations
    max_grants: kinds.LimitField = _LIMITS.max_grants
    max_reactivations: kinds.LimitField = _LIMITS.max_reactivations
    always_allow: Annotated[int, kinds.whole(0, 1_000_000)] = _LIMITS.always_allow
    at_most: Annotated[int, kinds.whole(1, 1_000_000)] = _LIMITS.at_most


class StateSection(_Section):
    """The state file (see `Settings.state_path`); `history` covers any `safety.window`, which counts in it."""

    path: kinds.OptionalPath = None
    history: Annotated[timedelta, kinds.duration("30d", "36500d")] = timedelta(days=400)


class ReportSection(_Section):
    """Where the report of a run is kept, and how long; None for nowhere."""

    directory: kinds.OptionalPath = None
    keep: Annotated[timedelta, kinds.duration("1d", "36500d")] = timedelta(days=90)


class NotifySection(_Section):
    """Who hears of alerts. The addresses of `webhook` and `heartbeat` let whoever knows them in: they are secrets."""

    webhook: kinds.OptionalSecret = None
    command: kinds.Command = ()
    heartbeat: kinds.OptionalSecret = None


class MetricsSection(_Section):
    """Where metrics can be had; None for nowhere."""

    listen: kinds.ListenField = None
    textfile: kinds.OptionalPath = None


class LogLevel(StrEnum):
    """The least important messages that are logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogSection(_Section):
    """What is logged, to standard error. Commands other than `run` log what is at INFO only where `level` is DEBUG."""

    level: Annotated[LogLevel, kinds.choice(LogLevel)] = LogLevel.INFO
    format: Annotated[LogFormat, kinds.choice(LogFormat)] = LogFormat.TEXT


class Settings(_Section):
    """All settings, checked. The section `[policy]` is `rules` here, since `policy()` is what the core gets of it."""

    tenant: Annotated[str, kinds.text_check("a name of up to 64 characters", ".{0,64}")] = ""
    jumpcloud: JumpCloudSection = Field(default_factory=JumpCloudSection)
    keeper: KeeperSection
    schedule: ScheduleSection = ScheduleSection()
    rules: PolicySection = Field(alias="policy", default=PolicySection())
    teams: TeamsSection = TeamsSection()
    safety: SafetySection = SafetySection()
    state: StateSection = StateSection()
    report: ReportSection = ReportSection()
    notify: NotifySection = NotifySection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()

    _file: Path = PrivateAttr()
    _digest: str = PrivateAttr()
    _lines: Mapping[Key, int] = PrivateAttr()

    @property
    def file(self) -> Path:
        """The file that the settings were loaded from, as it was named."""
        return self._file

    @property
    def digest(self) -> str:
        """Tells whether two processes have read the same settings.

        It is of the file's text, not of the values: those hold paths that differ with the way on which the file was
        reached, and defaults that differ between versions.
        """
        return self._digest

    def policy(self) -> Policy:
        """The rules of the diff."""
        rules, teams = self.rules, self.teams
        only = rules.only
        pilot = None if only is None else Pilot(frozenset(only.groups), frozenset(map(alike_key, only.users)))
        return Policy(
            mode=rules.mode,
            protect=frozenset(map(alike_key, rules.protect or ())),
            only=pilot,
            out_of_scope=rules.out_of_scope,
            grace=rules.grace,
            drift=rules.drift,
            reactivate=rules.reactivate,
            address_change=rules.address_change,
            teams=TeamPolicy(
                manage=teams.manage,
                include=teams.include,
                exclude=teams.exclude,
                adopt=teams.adopt,
                review=teams.review,
                out_of_scope=teams.out_of_scope,
                role_prefix=teams.role_prefix,
            ),
        )

    def limits(self) -> Limits:
        """The safety limits."""
        return Limits(**dict(self.safety))

    def state_path(self) -> Path:
        """Where the state file is: a command and the daemon of the same settings always find the same one."""
        if self.state.path:
            return self.state.path
        # systemd separates several directories by colons; the first is the service's own.
        if given := os.environ.get("STATE_DIRECTORY", "").split(":")[0]:
            return Path(given) / STATE_NAME
        file = Path(os.path.abspath(self._file))
        if file.parent == SYSTEM_DIRECTORY and file.suffix == ".toml":
            tenant = "" if file.stem == "config" else file.stem
            return SYSTEM_STATE / tenant / STATE_NAME
        return file.parent / "state" / STATE_NAME

    def own_file(self, path: Path) -> str:
        """Which of the files that the reconciler needs this path is, in words; "" if it is none.

        Whatever SQLite keeps beside the state file, its lock and its copies begin with its name.
        """
        state = os.path.realpath(self.state_path())
        secrets = [file for secret in self.secrets().values() for file in secret.files]
        for what, hit in (
            ("the settings file", same_file(path, self.file)),
            ("the state file", same_file(path, self.state_path())),
            ("a file that belongs to the state file", os.path.realpath(path).startswith((f"{state}-", f"{state}."))),
            ("a secret that the settings name", any(same_file(path, file) for file in secrets)),
        ):
            if hit:
                return what
        return ""

    def secrets(self) -> dict[str, Secret]:
        """Every reference to a secret that is in use, by its key."""
        found = {
            "jumpcloud.api_key": self.jumpcloud.api_key,
            "jumpcloud.client_secret": self.jumpcloud.client_secret,
            "keeper.token": self.keeper.token,
            "notify.webhook": self.notify.webhook,
            "notify.heartbeat": self.notify.heartbeat,
        }
        return {key: secret for key, secret in found.items() if secret}

    def problems(self) -> list[Problem]:
        """What only `check` insists on: that `policy.protect` is there, and that every secret can be had now."""
        found = []
        if self.rules.protect is None:
            hint = "accounts that must always work, such as one for emergencies; [] if there are none"
            found.append(self._problem("policy.protect", "missing", "a list of e-mail addresses", hint))
        for key, secret in self.secrets().items():
            try:
                secret.resolve()
            except SecretError as error:
                found.append(self._problem(key, str(error)))
        return found

    def _problem(self, key: str, found: str, allowed: str = "", hint: str = "") -> Problem:
        return Problem(self._file, _line(tuple(key.split(".")), self._lines), key, found, allowed, hint)


def find_settings(option: Path | None) -> Path:
    """The settings file: the `--config` option, else `$RECONCILER_CONFIG`, `./config.toml`, the system's own.

    Raises SettingsError where there is none, and for settings in the current directory that somebody else put there.
    """
    if option:
        return option
    if given := os.environ.get("RECONCILER_CONFIG"):
        return Path(given)
    places = [Path("config.toml"), SYSTEM_DIRECTORY / "config.toml"]
    for place in places:
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            # It may be there: loading tells what stands in the way. But nobody means a file in a directory that they
            # can't look into and only happen to be in, such as root's for `sudo -u reconciler`.
            if not place.is_absolute() and not os.access(".", os.X_OK, effective_ids=True):
                continue
        if not place.is_absolute() and (why := _whose(place)):
            raise SettingsError([Problem(place, None, "", why, hint="if they are meant, name them with --config")])
        return place
    raise SettingsError(
        [
            Problem(place, None, "", "no such file", hint="name one with --config or $RECONCILER_CONFIG")
            for place in places
        ]
    )


def _whose(found: Path) -> str:
    """Why settings that merely lie where somebody is may be a trap, "" if not: they name programs to run and where the
    secrets are sent, and root may be in anybody's directory."""
    with contextlib.suppress(OSError):  # loading tells
        status = found.stat()
        before_sudo = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
        if status.st_uid not in (0, os.geteuid()) and str(status.st_uid) != before_sudo:
            return "belongs to another user"
        if status.st_mode & stat.S_IWOTH:
            return "everybody may write it"
    return ""


def load(path: Path) -> Settings:
    """The settings in this file; raises SettingsError with everything that is wrong with them."""
    text = _read(path)
    if found := _TOO_MANY_PARTS.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise SettingsError([Problem(path, line, "", "a key of more than 50 parts")])
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError([_syntax_problem(path, text, error)]) from None
    lines = key_lines(text)
    data.setdefault("keeper", {})  # so that the missing key is told, not the missing section
    try:
        settings = Settings.model_validate(data, context={"base": Path(os.path.abspath(path)).parent})
    except ValidationError as error:
        # `from None`: the original holds the values, some of which may be secrets in the wrong place.
        raise SettingsError(_problems(path, lines, error.errors(include_url=False))) from None
    settings._file, settings._lines, settings._digest = path, lines, hashlib.sha256(text.encode()).hexdigest()
    textfile = settings.metrics.textfile
    if textfile is not None and (own := settings.own_file(textfile)):
        words = f"found {textfile}, which is {own}"
        raise SettingsError([settings._problem("metrics.textfile", words, hint="the metrics would replace it")])
    return settings


def same_file(path: Path, other: Path) -> bool:
    """Whether both names lead to one file, which need not be there, by links of either kind."""
    try:
        return os.path.realpath(path) == os.path.realpath(other) or os.path.samefile(path, other)
    except OSError:
        return False


def known_keys(section: type[BaseModel] = Settings) -> Iterator[str]:
    """Every key that the settings may have, with its sections, `policy.only.groups`."""
    for name, info in section.model_fields.items():
        key = info.alias or name
        inner = [kind for kind in (info.annotation, *get_args(info.annotation)) if isinstance(kind, type)]
        models = [kind for kind in inner if issubclass(kind, BaseModel)]
        if models:
            yield from (f"{key}.{below}" for below in known_keys(models[0]))
        else:
            yield key


def _read(path: Path) -> str:
    def problem(found: str, hint: str = "") -> SettingsError:
        return SettingsError([Problem(path, None, "", found, hint=hint)])

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise problem("not a file", "a directory or a device stands there")
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise problem("no such file", "config.example.toml shows what belongs into it") from None
    except PermissionError:
        raise problem("may not be read by this user", "run as the service's user, or with sudo") from None
    except OSError as error:
        raise problem(f"can't be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise problem(f"larger than {_MAX_BYTES} bytes", "no settings file is")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError([Problem(path, line, "", "not UTF-8", hint="save the file in UTF-8")]) from None


def _syntax_problem(path: Path, text: str, error: Exception) -> Problem:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
    line = int(found[2] or len(text.splitlines())) if found else None
    what = found[1] if found else "nested too deeply" if isinstance(error, RecursionError) else "a number out of range"
    return Problem(path, line, "", f"no TOML: {what}", hint="texts stand in double quotes, a key only once")


def _problems(path: Path, lines: Mapping[Key, int], errors: Sequence[ErrorDetails]) -> list[Problem]:
    # What depends on other keys is not looked at while those are wrong: that is no problem of its own.
    found = [error for error in errors if error["type"] != "default_factory_not_called"]
    found.sort(key=lambda error: (_line(error["loc"], lines) or 0, _key_text(error["loc"])))
    told = [_as_problem(path, lines, error) for error in found[:_MAX_PROBLEMS]]
    if len(found) > _MAX_PROBLEMS:
        told.append(Problem(path, None, "", count(len(found) - _MAX_PROBLEMS, "more problem"), hint="mend these first"))
    return told


def _as_problem(path: Path, lines: Mapping[Key, int], error: ErrorDetails) -> Problem:
    where = error["loc"]
    key = _key_text(where)
    context = error.get("ctx", {})
    found, allowed, hint = f"found {context.get('found') or kinds.show(error['input'])}", "", ""
    match error["type"]:
        case "missing":
            found, allowed = "missing", "a value; there is no default"
        case "extra_forbidden":
            found, hint = "unknown key", _suggestion(key)
        case "refused":
            allowed, hint = context["allowed"], context["hint"]
        case "tuple_type":
            allowed = "a list, in square brackets"
        case "model_type":
            allowed = "a table of keys"
        case _:
            found, allowed = "not usable", error["msg"]
    return Problem(path, _line(where, lines), key, found, allowed, hint)


def _suggestion(key: str) -> str:
    """Where the unknown key may have been meant to stand, or how to be spelled."""
    *section, name = key.split(".")
    known = list(known_keys())
    siblings = {other.split(".")[len(section)] for other in known if other.split(".")[: len(section)] == section}
    sections = {other.split(".")[0]: other.split(".")[0] for other in known}
    elsewhere = sections | {other.rpartition(".")[2]: other for other in reversed(known)}
    if name in elsewhere:
        meant = elsewhere[name]
    elif near := difflib.get_close_matches(name, siblings, 1):
        meant = ".".join([*section, near[0]])
    elif near := difflib.get_close_matches(name, elsewhere, 1, cutoff=0.75):
        meant = elsewhere[near[0]]
    else:
        return "config.example.toml has every key"
    return f"did you mean {meant}?"


def _key_text(where: Key) -> str:
    """The key as the file has it; list items are counted from 1 as people do, odd names are not shown."""
    words = [f"{part + 1}" if isinstance(part, int) else part for part in where]
    plain = [
        word if re.fullmatch("[A-Za-z0-9_-]{1,40}", word) and not looks_secret(word) else "(...)" for word in words
    ]
    return ".".join(plain)


def _line(where: Key, lines: Mapping[Key, int]) -> int | None:
    """The line of the key, or of the innermost section around it that the file has."""
    return next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
