"""Devices to write to. Root could replace those of the machine where the code is wrong, so it gets some of its own."""

import os
import stat
from pathlib import Path

import pytest

NULL, FULL = 3, 7
_NAMES = {NULL: "null", FULL: "full"}


def device(folder: Path, minor: int) -> Path:
    """The null device or the full one; for root a node of its own in the folder."""
    if os.geteuid() != 0:
        return Path("/dev") / _NAMES[minor]
    path = folder / _NAMES[minor]
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, minor))
        os.close(os.open(path, os.O_WRONLY))
    except PermissionError:
        pytest.skip("root may make no devices here")
    return path
