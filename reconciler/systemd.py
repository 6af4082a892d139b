"""What a service tells systemd (sd_notify(3)): plain datagrams, which need no library. Does nothing without systemd."""

import os
import socket
import time

PATIENCE = 0.1
"""Seconds that a word waits for a manager whose queue is full; then it is dropped."""


def notify(**values: str) -> None:
    """Send these assignments, e.g. `READY="1"` or `STATUS="..."`; a manager that does not listen is no error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{key}={_line(value)}" for key, value in values.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(PATIENCE)
            out.connect(address)
            out.send(message.encode(errors="replace"))
    except OSError:
        # The service must not depend on who watches it.
        return


def _line(value: str) -> str:
    """One line that steers no terminal: `systemctl status` shows it as it is."""
    return " ".join("".join(char if char.isprintable() else " " for char in value).split())


def reloading() -> None:
    """Tell that the settings are being read again; `notify(READY="1")` ends that."""
    notify(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))


def watchdog_seconds() -> float | None:
    """Within how many seconds the watchdog wants to hear from this process, None where there is none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def under_journal() -> bool:
    """Whether standard error goes to systemd's journal, which has times of its own."""
    device_and_inode = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return device_and_inode == f"{status.st_dev}:{status.st_ino}"
