"""Both simulators with an organisation, and a folder with settings for the real command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.sample import API_KEY, organisation
from reconciler.simulator.server import Server

SETTINGS = """\
[jumpcloud]
application = "Keeper"
api_key = {{ file = "api-key" }}
base_url = "{front}"
[keeper]
scim_url = "{back}"
token = {{ file = "token" }}
[policy]
protect = []
grace = "0s"
[safety]
first_run = "apply"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a benchmark runs; `front` serves JumpCloud, `back` Keeper."""

    folder: Path
    jumpcloud: JumpCloud
    front: Server
    back: Server


@contextmanager
def place(people: int, groups: int, more_settings: str = "") -> Iterator[Place]:
    """So many people and groups, none of them in Keeper yet."""
    jumpcloud, keeper = JumpCloud(), Keeper()
    jumpcloud.load(organisation(people, groups))
    with TemporaryDirectory() as name, Server(jumpcloud) as front, Server(keeper) as back:
        folder = Path(name)
        for secret, value in (("api-key", API_KEY), ("token", keeper.token())):
            (folder / secret).write_text(value)
            (folder / secret).chmod(0o600)
        settings = SETTINGS.format(front=front.url, back=back.url + keeper.base_path())
        (folder / "config.toml").write_text(settings + more_settings)
        yield Place(folder, jumpcloud, front, back)
