"""Comparison of addresses: what is the same, what is only alike, and the laws of both."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.addresses import alike, alike_key, same, same_key

LETTERS = "aAkKsSiI\u212a\u017f\u00df\u1e9e\u0130\u0131\u03c3\u03c2\u03a3\u00e9e\u0301\u0345\u01c5\u0430.@-"
"""Letters that meet each other under some comparison: Kelvin, long s, sharp s, both odd i, three sigmas, an accent in
two forms, a Cyrillic a."""
addresses = st.one_of(
    st.text(LETTERS, max_size=8),
    st.builds("{}@{}".format, st.text(LETTERS, max_size=4), st.sampled_from(["example.com", "M\u00fcnchen.de"])),
    st.builds(lambda name: f"a@xn--{name}.de", st.text("abc09-\u00fc", max_size=8)),
    st.text(max_size=12),
)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Ada@Example.com", "aDA@example.COM"),
        ("\u00c9va@example.com", "\u00e9VA@example.com"),
        ("ada@m\u00fcnchen.de", "ada@xn--mnchen-3ya.de"),
        ("ada@M\u00dcNCHEN.de", "ada@XN--mnchen-3YA.de"),
        ("ada@mu\u0308nchen.de", "ada@m\u00fcnchen.de"),
        ("ada@m\u00fcn_chen.de", "ada@M\u00dcN_chen.de"),
        ("ada@\U0001f4a9.la", "ada@xn--ls8h.la"),
        ("ada@example\u3002com", "ada@example.com"),
        (" ada@example.com", "ada@example.com"),
    ],
)
def test_the_same(left: str, right: str) -> None:
    assert same(left, right) and alike(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("mar\u212a@example.com", "mark@example.com"),
        ("\u017ftephen@example.com", "stephen@example.com"),
        ("stra\u00dfe@example.com", "strasse@example.com"),
        ("STRA\u1e9eE@example.com", "stra\u00dfe@example.com"),
        ("\u03b1\u03c2@example.com", "\u03b1\u03c3@example.com"),
        ("e\u0301va@example.com", "\u00e9va@example.com"),
        ("\uff41da@example.com", "ada@example.com"),
        ("ada@stra\u00dfe.de", "ada@strasse.de"),
    ],
)
def test_alike_and_not_the_same(left: str, right: str) -> None:
    assert alike(left, right) and not same(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("\u0131an@example.com", "ian@example.com"),
        ("\u0130an@example.com", "ian@example.com"),
        ("\u0430da@example.com", "ada@example.com"),  # a Cyrillic letter
        ("ada@ex\u0430mple.com", "ada@example.com"),
        ("ada@example.com", "ada@example.org"),
        ("ada+x@example.com", "ada@example.com"),
        ("a.da@example.com", "ada@example.com"),
    ],
)
def test_two_addresses(left: str, right: str) -> None:
    assert not alike(left, right) and not same(left, right)


@given(addresses, addresses)
@example("a@xn--" + "9" * 60, "\ud800@\ud800")
@example("@", "")
def test_both_are_equivalences_given_by_their_keys_and_the_same_is_alike(left: str, right: str) -> None:
    for relation in (same, alike):
        assert relation(left, left)
        assert relation(left, right) == relation(right, left)
    assert same(left, right) == (same_key(left) == same_key(right))
    assert alike(left, right) == (alike_key(left) == alike_key(right))
    assert alike(left, right) or not same(left, right)


@given(st.text(LETTERS.replace("@", ""), min_size=1), st.text(LETTERS.replace("@", ""), min_size=1))
def test_only_the_raw_local_part_decides_and_in_both_cases(left: str, right: str) -> None:
    both = left.lower() == right.lower() and left.upper() == right.upper()
    assert same(f"{left}@example.com", f"{right}@example.com") == both


def test_every_letter_is_alike_to_what_nfkc_and_case_folding_make_of_it() -> None:
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", letter).casefold())
        if not letter.isspace() and letter != "@":
            assert alike_key(f"{letter}@x") == f"{folded}@x", hex(number)


@given(st.text(max_size=300))
def test_no_domain_raises(domain: str) -> None:
    assert same(f"a@{domain}", f"a@{domain}") and alike_key(f"a@{domain}") == alike_key(f"a@{domain}")
