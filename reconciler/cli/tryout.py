"""The commands to try things with, on the embedded simulators."""

from pathlib import Path

import click

from reconciler.cli.base import Exit, cli


@cli.command()
@click.argument("service", type=click.Choice(["jumpcloud", "keeper"]))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port on 127.0.0.1; 0 takes a free one.")
@click.option("--seed-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What it holds.")
def simulate(service: str, port: int, seed_file: Path | None) -> None:
    """Run a simulator alone, to try things against, until it is interrupted."""
    from reconciler.simulator.alone import serve

    serve(service, port, seed_file)


@cli.command()
@click.option("--users", type=click.IntRange(20, 5000), default=200, show_default=True)
@click.option("--groups", type=click.IntRange(4, 200), default=12, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep settings and state in this folder.")
def demo(users: int, groups: int, keep: Path | None) -> None:
    """Tell the whole story on the embedded simulators."""
    from reconciler.demo import tell

    raise Exit(tell(users, groups, keep))
