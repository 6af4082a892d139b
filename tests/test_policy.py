import pytest

from reconciler.policy import Limit, TeamPolicy


@pytest.mark.parametrize(
    ("percent", "people", "allowed"),
    [(2, 49, 0), (2, 50, 1), (2, 812, 16), (0.29, 10_000, 29), (7, 100, 7), (14, 50, 7), (100, 5, 5), (50, 0, 0)],
)
def test_a_percentage_is_rounded_down_and_nothing_is_lost_to_binary_fractions(
    percent: float, people: int, allowed: int
) -> None:
    assert Limit(percent=percent).allowed(people) == allowed


def test_a_count_does_not_depend_on_how_many_people_there_are() -> None:
    assert Limit(count=7).allowed(3) == 7
    assert Limit(count=0).allowed(3) == 0


def test_a_limit_is_either_a_percentage_or_a_count() -> None:
    with pytest.raises(ValueError, match="either"):
        Limit()
    with pytest.raises(ValueError, match="either"):
        Limit(percent=1, count=1)


def test_a_limit_reads_like_in_the_settings() -> None:
    assert [str(Limit(percent=2)), str(Limit(percent=0.5)), str(Limit(count=0))] == ["2%", "0.5%", "0"]


@pytest.mark.parametrize(
    ("teams", "managed"),
    [
        (TeamPolicy(), True),
        (TeamPolicy(manage=False), False),
        (TeamPolicy(include=()), False),
        (TeamPolicy(include=("Eng*", "IT")), True),
        (TeamPolicy(include=("eng*",)), False),
        (TeamPolicy(include=("IT",)), False),
        (TeamPolicy(exclude=("*neer*",)), False),
        (TeamPolicy(include=("Engineering",), exclude=("Engineering",)), False),
    ],
)
def test_a_group_is_managed_if_included_and_not_excluded(teams: TeamPolicy, managed: bool) -> None:
    assert teams.manages("Engineering") is managed


def test_a_name_with_brackets_matches_itself_and_the_pattern_still_works() -> None:
    teams = TeamPolicy(include=("[EU] Sales",))
    assert teams.manages("[EU] Sales")
    assert teams.manages("E Sales")
    assert not teams.manages("X Sales")


def test_review_is_about_new_members_of_matching_groups() -> None:
    teams = TeamPolicy(review=("prod-*",))
    assert teams.reviews("prod-db")
    assert not teams.reviews("staging-db")
    assert not TeamPolicy().reviews("prod-db")
