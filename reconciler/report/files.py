"""Files that are written for somebody: whole or not at all where that can be, and never in the place of something else.

They hold personal data. A new file is readable for its owner, or for its group where the caller says so.
"""

import errno
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

OWNER = 0o600
GROUP = 0o640

_ONLY_IN_PLACE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV})
"""A directory that may not be written, an owner that we can't give a new file, a file that is a mount point."""
_DESCRIPTORS = re.compile(r"/proc/(?:self|\d+)(?:/task/\d+)?/fd")
_MOST_LINKS = 40


def write(path: Path, text: str, mode: int, *, ours: bool = False) -> None:
    """Write a text in UTF-8 to a file; a new one gets the mode. Raises OSError.

    A regular file is replaced in one step and keeps its owner, mode and access list; a machine that stops in between
    leaves the former file and a draft named `.NAME.….tmp`. It is written in place where only that keeps its owner or
    its other names (hard links), or where its directory may not be written. A link is followed and stays. A device, a
    pipe, or a descriptor of this process (/dev/stdout) is written to.

    `ours`: the name is the reconciler's own, given in the settings. Then a file that this user may not write is
    replaced too, and a pipe without a reader is an error; else it is waited for.
    """
    content = text.encode("utf-8", "backslashreplace")
    number = descriptor(path)
    if number is not None:
        _pour(os.dup(number), content)
        return
    try:
        found = path.stat()
    except FileNotFoundError:
        _replace(Path(os.path.realpath(path)), content, mode, None, ours=ours)
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    target = Path(os.path.realpath(path))
    if not stat.S_ISREG(found.st_mode):
        _pour(_open(path, os.O_NONBLOCK if ours else 0), content)
        return
    if not ours:
        os.close(_open(path))  # a file that this user may not write is not to be replaced either
    if found.st_nlink == 1 and target.exists():
        try:
            _replace(target, content, mode, found, ours=ours)
            return
        except OSError as error:
            if error.errno not in _ONLY_IN_PLACE:
                raise
    _pour(_open(path), content, regular=True)


def descriptor(path: Path) -> int | None:
    """Which open descriptor of this process a path like /dev/stdout or /dev/fd/3 names; None for every other path."""
    own = os.path.realpath("/proc/self")
    for _ in range(_MOST_LINKS):
        parent = os.path.realpath(path.parent)
        path = Path(parent, path.name)
        if parent.startswith(f"{own}/") and _DESCRIPTORS.fullmatch(parent) and path.name.isdecimal():
            return int(path.name)
        if not os.path.islink(path):  # Path.is_symlink raises for a name that is too long
            return None
        path = Path(parent, os.readlink(path))
    return None


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


def _replace(target: Path, content: bytes, mode: int, former: os.stat_result | None, *, ours: bool) -> None:
    prefix = f".{target.name[:50]}."  # a name may be as long as the file system takes, and the draft's is longer
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if former is None:
                os.fchmod(file.fileno(), mode)  # not at its making, where the umask takes from it
                if mode == GROUP:
                    _hand_over(file.fileno(), target.parent)
            else:
                _keep_owner(file.fileno(), former, ours=ours)
                shutil.copystat(target, draft)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _keep_owner(handle: int, former: os.stat_result, *, ours: bool) -> None:
    made = os.fstat(handle)
    if (made.st_uid, made.st_gid) == (former.st_uid, former.st_gid):
        return
    try:
        os.fchown(handle, former.st_uid, former.st_gid)
    except PermissionError:
        if not ours:
            raise


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC | flags)


def _pour(handle: int, content: bytes, *, regular: bool = False) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        if regular:
            file.truncate()
            os.fsync(file.fileno())


def _hand_over(descriptor: int, directory: Path) -> None:
    """Let what root makes belong to the owner of the directory, so that the service's user can go on with it."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
