"""Numbers with their nouns and verbs: the one place that makes plural forms. Pure."""

_PLURALS = {"person": "people", "is": "are", "was": "were", "has": "have", "this": "these"}


def count(number: float, noun: str, verb: str = "") -> str:
    """A number with its noun and the verb that follows it, both given in the singular: "1 person is", "2 people are".

    Of a noun of several words the last is the one that changes.
    """
    *first, last = noun.split(" ")
    many = _PLURALS.get(last, f"{last}s")
    words = [str(number), *first, last if number == 1 else many, *([agreeing(number, verb)] if verb else [])]
    return " ".join(words)


def times(number: int) -> str:
    """Say how often: "once", "2 times"."""
    return "once" if number == 1 else f"{number} times"


def agreeing(number: float, verb: str) -> str:
    """The form of a verb, given in the singular, after so many: "is" or "are", "waits" or "wait"."""
    if number == 1:
        return verb
    return _PLURALS.get(verb) or verb.removesuffix("s")
