"""Files that hold personal data: whole or not at all, and not for everybody."""

import os
from pathlib import Path

OWNER = 0o600
GROUP = 0o640


def write(path: Path, text: str, mode: int) -> None:
    """Write a file that is there as a whole or not at all, also when the machine stops in between. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)  # not at its making, where the umask takes from it
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
