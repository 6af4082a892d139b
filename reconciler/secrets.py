"""References to secrets, and the secrets themselves at the moment they are needed.

The settings name where a secret is, never the secret. Nothing here prints, logs or keeps a secret's value.
"""

import difflib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

CREDENTIAL_STORE = Path("/etc/credstore")
"""Where systemd's LoadCredential= finds credentials by their name alone (systemd.exec(5))."""
FORMS = '{ credential = "NAME" }, { env = "NAME" } or { file = "PATH" }'

_MAX_BYTES = 8192
_NAMES = {
    # Capitals only, as POSIX has it for applications: a secret that was put here by mistake rarely fits.
    "env": re.compile(r"[A-Z_][A-Z0-9_]{0,127}"),
    "credential": re.compile(r"(?!\.)[A-Za-z0-9._-]{1,255}"),
    "file": re.compile(r"[^\x00-\x1f\x7f]{1,4096}"),
}


class SecretError(Exception):
    """A secret could not be had. The text names the reference and the way out, never the value."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is: a systemd credential, an environment variable, or a file."""

    kind: str  # "credential", "env" or "file"
    name: str

    def __str__(self) -> str:
        """The reference as it stands in the settings."""
        return f'{{ {self.kind} = "{self.name}" }}'

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file in which it is looked for."""
        if self.kind == "file":
            return (Path(self.name),)
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        places = [Path(given), CREDENTIAL_STORE] if given else [CREDENTIAL_STORE]
        return tuple(place / self.name for place in places) if self.kind == "credential" else ()

    def resolve(self) -> SecretStr:
        """The secret as it is now, without one trailing line end; raises SecretError.

        A credential is looked for in `$CREDENTIALS_DIRECTORY`, then, for an administrator outside the service, in
        `/etc/credstore`. A file that others than its owner can read is refused, unless systemd manages it.
        """
        read: Callable[[], bytes] = {
            "credential": self._from_credential,
            "env": self._from_environment,
            "file": lambda: self._from_file(Path(self.name)),
        }[self.kind]
        return SecretStr(self._checked(read()))

    def _from_environment(self) -> bytes:
        value = os.environ.get(self.name)
        if value is None:
            raise self._error("the environment variable is not set: set it for this process")
        return os.fsencode(value)

    def _from_credential(self) -> bytes:
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        places = [Path(given)] if given else []
        in_store = CREDENTIAL_STORE / self.name
        paths = [place / self.name for place in places]
        if not given or os.access(in_store, os.R_OK, effective_ids=True):
            paths.append(in_store)  # for a service it is closed: there, what systemd did not hand over is not there
        for path in paths:
            if _there(path):
                return self._from_file(path)
        unset = "" if given else "$CREDENTIALS_DIRECTORY is not set, and "
        raise self._error(
            f"{unset}there is no such credential in {' or '.join(map(str, [*places, CREDENTIAL_STORE]))}: "
            f"put it into {CREDENTIAL_STORE}, readable by its owner only, with LoadCredential={self.name} in the "
            "service's unit, and restart the service"
        )

    def _from_file(self, path: Path) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise self._error(f"{path} does not exist") from None
        except PermissionError:
            raise self._error(f"{path} may not be read by this user: run as its owner, or with sudo") from None
        except OSError as error:
            raise self._error(f"{path} can't be opened: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._error(f"{path} is not a file")
            if status.st_mode & 0o077 and not _managed_by_systemd(path):
                raise self._error(
                    f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}): "
                    f"chmod 600 {path}, and think about a new secret"
                )
            return os.read(descriptor, _MAX_BYTES + 1)
        finally:
            os.close(descriptor)

    def _checked(self, raw: bytes) -> str:
        if raw.endswith(b"\n"):
            raw = raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
        if not raw:
            raise self._error("it is empty")
        if len(raw) > _MAX_BYTES:
            raise self._error(f"it is longer than {_MAX_BYTES} bytes: no key or token is")
        if b"\n" in raw or b"\r" in raw:
            raise self._error("it has more than one line: the secret stands there alone")
        if any(byte <= 0x20 or byte >= 0x7F for byte in raw):
            raise self._error("it has white space, control characters or letters beyond ASCII: no key or token has")
        return raw.decode("ascii")

    def _error(self, what: str) -> SecretError:
        return SecretError(f"{self}: {what}")


def parse(value: object, base: Path) -> Secret:
    """The reference that a settings value is; a relative file counts from `base`.

    Raises ValueError with a hint, which is empty where there is none. It never quotes the value.
    """
    if isinstance(value, str):
        raise ValueError("never put the secret itself into this file; name the place where it is")
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("")
    [(kind, name)] = value.items()
    if kind not in _NAMES:
        raise ValueError("".join(f"did you mean {near}?" for near in difflib.get_close_matches(kind, _NAMES, 1)))
    if not isinstance(name, str) or not _NAMES[kind].fullmatch(name) or looks_secret(Path(name).name):
        capitals = ", in capitals" if kind == "env" else ""
        raise ValueError(f"{kind} takes {'a path' if kind == 'file' else 'a name' + capitals}, never the secret")
    return Secret(kind, str(base / name) if kind == "file" else name)


def looks_secret(text: str) -> bool:
    """Whether a text may be a key or token that was put in the wrong place, and so had better not be printed."""
    words = re.findall(r"[A-Za-z0-9]{20,}", text)
    return any(not word.isalpha() and not word.isdigit() for word in words)


def masked(text: str) -> str:
    """The text without what may be a key or token, for where nobody can say what is in it."""
    return re.sub(r"[A-Za-z0-9_+/=-]{20,}", "[…]", text)


def _there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # the reader tells why
    return True


def _managed_by_systemd(path: Path) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(directory or "/"))
