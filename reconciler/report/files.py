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
            if mode == GROUP:
                _hand_over(file.fileno(), path.parent)
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def make_directory(path: Path) -> None:
    """Make a directory that its group can read, where there is none. Raises OSError."""
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, 0o750)
        _hand_over(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _hand_over(descriptor: int, directory: Path) -> None:
    """Let what root makes belong to the owner of the directory, so that the service's user can go on with it."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
