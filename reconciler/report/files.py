"""Files that hold personal data: whole or not at all, and not for everybody."""

import os
import tempfile
from pathlib import Path

OWNER = 0o600
GROUP = 0o640


def write(path: Path, text: str, mode: int) -> None:
    """Write a file that is there as a whole or not at all, also when the machine stops in between: what that leaves
    is named `.NAME.….tmp`. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)  # not at its making, where the umask takes from it
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
