"""Where each key of a TOML text stands, which the standard library's parser does not tell."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Key = tuple[str | int, ...]
"""The way to a value: names of tables and keys, positions in lists."""

_DEEPEST = 8
"""Parts of the longest key that is told apart; settings have half as many. What is below counts as the one above it."""

_TOKEN = re.compile(
    r"""
    (?P<comment> \#[^\n]* )
  | (?P<text>  \"{3} (?: \\. | (?!\"{3}) [^\\] )* \"{3,5}
             | '{3} (?: (?!'{3}) . )* '{3,5}
             | " (?: \\. | [^"\\\n] )* "
             | ' [^'\n]* ' )
  | (?P<mark>  [][{}=,.\n] )
  | (?P<bare>  [^][{}=,.\n\s"'\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([btnfr\"\\]))")
_SHORT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def key_lines(text: str) -> dict[Key, int]:
    """The line, counted from 1, of every table, key and list item in a text that tomllib has accepted."""
    scan = _Scan(list(_tokens(text)))
    scan.document()
    return scan.lines


@dataclass(slots=True)
class _Scan:
    tokens: list[tuple[str, int]]
    at: int = 0
    lines: dict[Key, int] = field(default_factory=dict)

    def document(self) -> None:
        table: Key = ()
        while self._skip("\n"):
            if self._peek() == "[":
                self._skip("[")
                table = self._key(())
                self._skip("]")
            else:
                self._assignment(table)

    def _assignment(self, table: Key) -> None:
        key = self._key(table)
        self._skip("=")
        self._value(key)

    def _key(self, table: Key) -> Key:
        key = table
        while (token := self._peek()) not in ("=", "]"):
            if token != "." and len(key) < _DEEPEST:
                key = (*key, _name(token))
                self.lines.setdefault(key, self.tokens[self.at][1])
            self.at += 1
        return key

    def _value(self, key: Key) -> None:
        match self._peek():
            case "{":
                self.at += 1
                while self._skip(",\n") and self._peek() != "}":
                    self._assignment(key)
                self.at += 1
            case "[":
                self.at += 1
                position = 0
                while self._skip(",\n") and self._peek() != "]":
                    self.lines[(*key, position)] = self.tokens[self.at][1]
                    self._value((*key, position))
                    position += 1
                self.at += 1
            case _:
                while self.at < len(self.tokens) and self._peek() not in (",", "]", "}", "\n"):
                    self.at += 1

    def _peek(self) -> str:
        return self.tokens[self.at][0]

    def _skip(self, marks: str) -> bool:
        """Go past these marks; whether anything comes after them."""
        while self.at < len(self.tokens) and self._peek() in marks:
            self.at += 1
        return self.at < len(self.tokens)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, end = 1, 0
    for found in _TOKEN.finditer(text):
        line += text.count("\n", end, found.start())
        end = found.start()
        if found.lastgroup != "comment":
            yield found.group(), line


def _name(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1]
    if not token.startswith('"'):
        return token
    return _ESCAPE.sub(lambda found: _SHORT.get(found[3]) or chr(int(found[1] or found[2], 16)), token[1:-1])
