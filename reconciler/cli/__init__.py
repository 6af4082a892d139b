"""The command line: parse, call, print, exit code.

What takes long to import is imported by the command that needs it.
"""

import os
import sys

import click

from reconciler.cli import act, look, output, report, serve, tell, tryout
from reconciler.cli.base import Exit, cli
from reconciler.cli.output import say
from reconciler.exits import CHANGES, DONE, FAILED, HELD, PARTIAL, USAGE, explained, unforeseen

__all__ = ["act", "look", "main", "report", "serve", "tell", "tryout"]


def main() -> None:
    """Run the command line; every error that can be expected ends in a sentence and a documented exit code."""
    output.own()
    code = _run() or DONE
    if (problem := output.take_problem()) and code in (DONE, CHANGES, HELD, PARTIAL):
        say(f"The result could not be written to standard output: {problem}. Run the command again once it can.")
        code = FAILED
    sys.exit(code)


def _run() -> int | None:
    try:
        code: int | None = cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = USAGE
    except (click.Abort, KeyboardInterrupt):
        say("Interrupted.")
        code = FAILED
    except Exit as stop:
        code = stop.code
    except Exception as error:
        found = explained(error)
        if found is None and os.environ.get("RECONCILER_TRACEBACK"):
            raise
        code, words = found or (FAILED, unforeseen(error))
        say(words)
    return code
