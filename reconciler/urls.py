"""Which addresses a credential may be sent to."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_secure(url: str) -> str:
    """The URL, unchanged, if a credential may be sent there: https, or http to a loopback address.

    Raises ValueError otherwise, saying what was found instead. It never quotes the URL, which may hold a password.
    """
    parts = _split(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("no https:// address")
    if not parts.hostname:
        raise ValueError("an address without a host")
    if "@" in parts.netloc:
        raise ValueError("an address with a user name or a password")
    if parts.scheme == "http" and not is_loopback(url):
        raise ValueError("http:// to another machine, which sends the credential in the clear")
    return url


def service_url(url: str) -> str:
    """The URL of a service to which paths are appended, in one spelling: two spellings of one place are equal.

    Without a trailing slash; scheme and host in lower case; without the scheme's own port. Raises ValueError as
    `require_secure` does, and for a query or a fragment.
    """
    parts = _split(require_secure(url))
    if "?" in url or "#" in url:
        raise ValueError("an address with a query or a fragment")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def _split(url: str) -> SplitResult:
    # urlsplit drops tabs and line ends silently, and a backslash is read as a slash by some and not by others.
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("characters that no address has")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("no address") from None
    return parts
