"""The reconciler's own command line as a process of its own, in hurried time and, if asked, with a deliberate fault."""

import asyncio
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from reconciler import cli, http, pace
from reconciler.cli import base
from tests.campaign import process_time

CLOCK = "CAMPAIGN_CLOCK"
MUTANT = "CAMPAIGN_MUTANT"


def main() -> None:
    clock = Path(os.environ[CLOCK])
    hurried = partial(process_time.Clock, wall=lambda: process_time.now(clock).timestamp())
    name = os.environ.get(MUTANT)
    if name:
        from tests.campaign import mutants  # imports most of the package, which costs half a second

        fault = mutants.BY_NAME[name]()
    else:
        fault = nullcontext()
    with (
        patch.object(asyncio, "run", process_time.run),
        patch.object(pace, "Clock", hurried),
        patch.object(http, "Clock", hurried),
        patch.object(base, "datetime", SimpleNamespace(now=lambda _zone: process_time.now(clock))),
        fault,
    ):
        cli.main()


if __name__ == "__main__":
    main()
