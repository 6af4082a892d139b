"""Comparison of e-mail addresses: the one place that says whether two of them are the same, or only alike. Pure.

*The same*: a person may be linked to the account with this address. *Alike*: a person or Keeper may take one for the
other. Alike and not the same is a conflict, never a link.

Addresses are compared as the services hold them, without Unicode normalisation: NFC alone turns the Kelvin sign into
the letter K, and so one mailbox into another.
"""

import unicodedata
from functools import lru_cache

import idna

DIFFERENCE = "which differs only by letters that count as the same somewhere (such as ß and ss)"
"""How an address differs from one that is alike and not the same, for the middle of a sentence."""

_PREFIX = "xn--"

SameKey = tuple[str, str, str]
"""Equal for two addresses that are the same, and for no others."""


def same(left: str, right: str) -> bool:
    """Whether two addresses are the same.

    Their local parts are equal in lower case and in upper case, and their domains are equal as IDNA A-labels (RFC 5890,
    mapped by UTS #46). Upper and lower case alone make no difference; the Kelvin sign, long s, sharp s, dotless i, the
    final sigma and another normal form do.
    """
    return left == right or same_key(left) == same_key(right)


def alike(left: str, right: str) -> bool:
    """Whether two addresses are equal after NFKC and case folding; the domain in either of its written forms."""
    return left == right or alike_key(left) == alike_key(right)


def same_key(address: str) -> SameKey:
    """The key for look-ups of the same address."""
    local, domain = _parts(address)
    return local.lower(), local.upper(), _a_labels(domain)


def alike_key(address: str) -> str:
    """The key for look-ups of addresses alike; it reads like an address in lower case."""
    local, domain = _parts(address)
    # From the lower case and the A-labels: what is the same is alike, whatever the text.
    folded = _folded(local.lower())
    return f"{folded}@{_folded_domain(_a_labels(domain))}" if domain else folded


def _parts(address: str) -> tuple[str, str]:
    local, at, domain = address.strip().rpartition("@")
    return (local, domain) if at else (domain, "")


def _folded(text: str) -> str:
    """The text after NFKC and case folding; the second NFKC puts together what the folding has taken apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@lru_cache(4096)
def _a_labels(domain: str) -> str:
    """The domain in A-labels. One that IDNA does not permit is compared in lower case: no address stops a cycle."""
    if domain.isascii():
        return domain.lower()
    try:
        mapped = idna.uts46_remap(domain, std3_rules=False)
    except idna.IDNAError:
        mapped = unicodedata.normalize("NFC", domain.lower())
    return ".".join(label if label.isascii() else _PREFIX + _punycode(label) for label in mapped.split("."))


def _punycode(label: str) -> str:
    return label.encode("punycode").decode("ascii")


@lru_cache(4096)
def _folded_domain(a_labels: str) -> str:
    return _folded(".".join(map(_u_label, a_labels.split("."))))


def _u_label(label: str) -> str:
    if not label.startswith(_PREFIX):
        return label
    try:
        return label.removeprefix(_PREFIX).encode("ascii").decode("punycode")
    except (ValueError, OverflowError):
        return label
