"""What may reach a terminal: names from the services are data, whatever is in them."""

import unicodedata

import click

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})


def clean(text: str, width: int = 200) -> str:
    """The text with control characters, escapes, bidirectional marks and other invisible characters made visible, and
    cut to `width` characters."""
    shown = "".join(_visible(character) for character in text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _visible(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in _HARMFUL:
        return character if character != "\n" else " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def styled(text: str, colour: bool, **style: object) -> str:
    """The text in colour, where colour is wanted."""
    return click.style(text, **style) if colour else text  # type: ignore[arg-type]
