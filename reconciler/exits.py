"""The exit codes, and what an administrator is told about an error: the one place that puts errors into words."""

DONE, FAILED, USAGE, CHANGES, HELD, PARTIAL, STATE = 0, 1, 2, 3, 4, 5, 6
"""0 done, 1 failed and nothing was applied, 2 wrong usage or settings, 3 there are changes or a saved plan no longer
holds, 4 held, 5 applied in part, a list could not be read or somebody keeps failing, 6 the state file is in use or not
usable."""


def explained(error: Exception, failed: str = "The cycle has failed.") -> tuple[int, str] | None:
    """The exit code and the sentences for an error that can be expected; None for any other.

    `failed` says what came to nothing where a service is the cause.
    """
    from reconciler.config import SettingsError
    from reconciler.report.terminal import clean
    from reconciler.secrets import SecretError

    if isinstance(error, SettingsError | SecretError):
        return USAGE, f"The settings can't be used; nothing was done.\n{error}"
    from reconciler.store import StateError, WrongBinding

    if isinstance(error, StateError):
        return FAILED if isinstance(error, WrongBinding) else STATE, clean(str(error), width=4000)
    from reconciler.http import HttpError
    from reconciler.jumpcloud import JumpCloudError
    from reconciler.keeper import KeeperError
    from reconciler.reading import NobodyThere, Stopped
    from reconciler.report.document import SavedPlanError

    if isinstance(error, SavedPlanError):
        return USAGE, clean(str(error), width=4000)
    if isinstance(error, NobodyThere | Stopped):
        return FAILED, clean(str(error), width=4000)
    if isinstance(error, JumpCloudError | KeeperError | HttpError):
        return FAILED, f"{clean(str(error), width=4000)}\n{failed}"
    return None


def unforeseen(error: Exception) -> str:
    """What is said of an error that nobody expected."""
    return (
        f"An error that should not happen: {named(error)}. What was begun is in the journal; the next run settles it. "
        "Please report it (RECONCILER_TRACEBACK=1 shows where it was)."
    )


def recorded(error: Exception) -> str:
    """The text of an error as it may be kept: its own where it can be expected."""
    return str(error) if explained(error) else named(error)


def named(error: BaseException) -> str:
    """An error that nobody expected, made harmless: its text may be of any origin."""
    from reconciler.report.terminal import clean
    from reconciler.secrets import masked

    text = clean(masked(str(error)), width=300)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
