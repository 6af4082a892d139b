"""The settings of a history as its administrator wrote them: what is read, and what the observer judges by."""

from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reconciler.config import Settings

NODES = ("123456789", "987654321")
HOST = "https://keepersecurity.com"


def scim_url(node: str) -> str:
    return f"{HOST}/api/rest/scim/v2/{node}"


@dataclass
class Rules:
    """What can be set, in the words of the settings file."""

    node: str = NODES[0]
    policy: dict[str, Any] = field(default_factory=lambda: {"protect": []})
    teams: dict[str, Any] = field(default_factory=dict)
    safety: dict[str, Any] = field(default_factory=dict)
    _made: dict[str, Settings] = field(default_factory=dict, repr=False, compare=False)
    """The settings of the words; each cycle asks for them, and they rarely change."""

    def settings(self, folder: Path) -> Settings:
        """The same as the reconciler gets it."""
        secret = {"env": "NONE"}
        document = {
            "jumpcloud": {"application": "Keeper", "api_key": secret, "in_flight": 3},
            "keeper": {"scim_url": scim_url(self.node), "token": secret, "in_flight": 3},
            "policy": dict(self.policy),
            "teams": dict(self.teams),
            "safety": dict(self.safety),
        }
        if (key := f"{folder} {document}") not in self._made:
            settings = Settings.model_validate(document, context={"base": folder})
            settings._file, settings._digest = folder / "config.toml", "settings"
            self._made[key] = settings
        return self._made[key]

    @property
    def protected(self) -> set[str]:
        return {address.casefold() for address in self.policy.get("protect", ())}

    @property
    def observes(self) -> bool:
        return bool(self.policy.get("mode", "enforce") == "observe")

    @property
    def narrow(self) -> bool:
        """Whether nothing, or only what concerns a pilot, is sent."""
        return self.observes or "only" in self.policy

    @property
    def window(self) -> timedelta:
        return timedelta(hours=24)

    @property
    def grace(self) -> timedelta:
        value = str(self.policy.get("grace", "30m"))
        return timedelta(seconds=int(value[:-1]) * {"s": 1, "m": 60, "h": 3600}[value[-1]])

    def manages(self, group: str) -> bool:
        """Whether a group of this name is to be a team."""
        wanted = any(fnmatchcase(group, pattern) for pattern in self.teams.get("include", ["*"]))
        return wanted and not any(fnmatchcase(group, pattern) for pattern in self.teams.get("exclude", []))

    def allowed(self, limit: str, people: int, default: str) -> int:
        """The most people that a limit can let pass, if so many are managed."""
        value: int | str = self.safety.get(limit, default)
        if isinstance(value, int):
            return value
        always: int = min(self.safety.get("always_allow", 3), max(1, people // 3))
        return max(int(people * float(value.rstrip("%")) / 100 + 1e-6), always)
