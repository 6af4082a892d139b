"""Numbers with their nouns: one helper makes the forms, and nothing that is printed makes its own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import reconciler
from reconciler.counting import agreeing, count

_PLURAL = re.compile(
    r"( (more|other|older|stored|Keeper))* (people|persons|users|teams|members|memberships|operations|changes|groups|"
    r"accounts|lines|problems|ones|limits|minutes|requests|times lay|are|were|wait)\b"
)


@pytest.mark.parametrize(
    ("number", "noun", "verb", "words"),
    [
        (0, "person", "", "0 people"),
        (1, "Keeper user", "is", "1 Keeper user is"),
        (2, "Keeper user", "is", "2 Keeper users are"),
        (1, "more person", "waits", "1 more person waits"),
        (3, "operation", "waits", "3 operations wait"),
        (2, "row", "has", "2 rows have"),
    ],
)
def test_a_number_with_its_noun_and_verb(number: int, noun: str, verb: str, words: str) -> None:
    assert count(number, noun, verb) == words


def test_a_verb_agrees() -> None:
    assert [agreeing(n, "loses") for n in (0, 1, 2)] == ["lose", "loses", "lose"]


def own_plurals() -> Iterator[str]:
    """Texts in the package that put a plural behind a number of their own."""
    package = Path(reconciler.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if "simulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for value, after in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                    number = ast.unparse(value.value)
                    if _PLURAL.match(ast.literal_eval(after)) and not number.isupper():
                        yield f"{path.relative_to(package)}: {{{number}}}{ast.literal_eval(after)}"


def test_no_text_makes_a_plural_of_its_own() -> None:
    assert list(own_plurals()) == []
