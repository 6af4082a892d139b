"""`reconciler simulate`: one simulator alone, until it is interrupted."""

import json
import textwrap
from pathlib import Path

import click

from reconciler.simulator.jumpcloud import JumpCloud, controlled
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.sample import API_KEY, organisation
from reconciler.simulator.server import Server
from reconciler.simulator.service import Controlled


def serve(service: str, port: int, seed_file: Path | None) -> None:
    """Serve on 127.0.0.1 and say how to reach it. Raises ClickException for a seed that can't be used."""
    try:
        seed = json.loads(seed_file.read_text(encoding="utf-8")) if seed_file else None
        controls, hints = _jumpcloud(seed) if service == "jumpcloud" else _keeper(seed)
        server = Server(controls, port)
        server.__enter__()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise click.ClickException(f"the simulator can't be started: {error}") from None
    try:
        for line in hints:
            click.echo(line.format(url=server.url))
        click.echo(f"To change it: POST {server.url}/_simulator/NAME with a JSON object of arguments; NAME is one of")
        for line in textwrap.wrap(" ".join(sorted(controls.controls)), 100):
            click.echo(f"  {line}")
        click.echo(f"What they take: GET {server.url}/_simulator/; what it holds: GET {server.url}/_simulator/dump.")
        click.echo("Ctrl-C ends it.")
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("Ended.")
    finally:
        server.__exit__(None, None, None)


def _jumpcloud(seed: object) -> tuple[Controlled, list[str]]:
    service = JumpCloud()
    service.load(seed if isinstance(seed, dict) else organisation(50, 8))
    hints = ['JumpCloud: base_url = "{url}"']
    return controlled(service), hints if seed else [*hints, f"API key: {API_KEY}"]


def _keeper(seed: object) -> tuple[Controlled, list[str]]:
    service = Keeper()
    if isinstance(seed, dict):
        service.load(seed)
    hints = [f'Keeper: scim_url = "{{url}}{service.base_path()}"', f"SCIM token: {service.token()}"]
    return Controlled(service, service.controls, service.dump), hints
