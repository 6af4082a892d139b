"""The command line: parse, call, print, exit code.

What takes long to import is imported by the command that needs it.
"""

import os
import sys

import click

from reconciler.cli import act, look, tryout
from reconciler.cli.base import DONE, FAILED, STATE, USAGE, Exit, cli, say

__all__ = ["act", "look", "main", "tryout"]


def main() -> None:
    """Run the command line; every error that can be expected ends in a sentence and a documented exit code."""
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = USAGE
    except (click.Abort, KeyboardInterrupt):
        say("Interrupted. What was begun is in the journal; the next run settles it.")
        code = FAILED
    except Exit as stop:
        code = stop.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:
        code = _explain(error)
    sys.exit(code or DONE)


def _explain(error: Exception) -> int:
    """What an administrator is told about an error, and the exit code."""
    from reconciler.config import SettingsError
    from reconciler.report.terminal import clean
    from reconciler.secrets import SecretError

    if isinstance(error, SettingsError | SecretError):
        say(f"The settings can't be used; nothing was done.\n{error}")
        return USAGE
    from reconciler.store import StateError, WrongBinding

    if isinstance(error, StateError):
        say(str(error))
        return FAILED if isinstance(error, WrongBinding) else STATE
    from reconciler.cycle import NobodyThere
    from reconciler.http import HttpError
    from reconciler.jumpcloud import JumpCloudError
    from reconciler.keeper import KeeperError
    from reconciler.report.document import SavedPlanError

    if isinstance(error, SavedPlanError):
        say(clean(str(error), width=4000))
        return USAGE
    if isinstance(error, JumpCloudError | KeeperError | HttpError | NobodyThere):
        say(clean(str(error), width=4000))
        say("The cycle has failed.")
        return FAILED
    if os.environ.get("RECONCILER_TRACEBACK"):
        raise error
    say(
        f"An error that should not happen: {type(error).__name__}: {clean(str(error), width=300)}. What was begun is "
        "in the journal; the next run settles it. Please report it (RECONCILER_TRACEBACK=1 shows where it was)."
    )
    return FAILED
