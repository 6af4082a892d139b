"""A believable organisation of any size, the same for the same seed, as a seed document for JumpCloud."""

# ruff: noqa: RUF001 - the names are meant in their own letters

import random
from collections import Counter
from typing import Any

from reconciler.simulator.jumpcloud_graph import object_id

API_KEY = "jca_simulated_key"
APPLICATION = "Keeper"
DOMAIN = "example.com"

# Given names and family names by culture, each with the spelling that its e-mail addresses use.
_NAMES = (
    ("Mary Grace Emily Oliver George Amelia Noah Isla", "Smith Jones Taylor O'Brien Wilson Patel Evans Walker"),
    ("Jürgen:juergen Anke Björn:bjoern Lena Käthe:kaethe Uwe", "Müller:mueller Schäfer:schaefer Weiß:weiss Vogel"),
    ("José:jose María:maria Íñigo:inigo Lucía:lucia Pablo", "García:garcia Muñoz:munoz López:lopez Ruiz Peña:pena"),
    ("Zoé:zoe François:francois Léa:lea Émile:emile Hélène:helene", "Lefèvre:lefevre Dubois Moreau d'Arc Noël:noel"),
    ("Łukasz:lukasz Agnieszka Paweł:pawel Małgorzata:malgorzata", "Wójcik:wojcik Kowalski Żak:zak Dąbrowska:dabrowska"),
    ("Søren:soren Åsa:asa Jørgen:jorgen Astrid Linnéa:linnea", "Ødegård:odegard Nyström:nystrom Hansen Lindqvist"),
    ("Nguyễn:nguyen Thị:thi Minh Quân:quan Hương:huong", "Trần:tran Phạm:pham Lê:le Đặng:dang Võ:vo"),
    ("太郎:taro 花子:hanako 健一:kenichi さくら:sakura 翔:sho", "田中:tanaka 佐藤:sato 鈴木:suzuki 高橋:takahashi"),
    ("伟:wei 芳:fang 秀英:xiuying 敏:min 静:jing", "王:wang 李:li 张:zhang 刘:liu 陈:chen"),
    ("Дмитро:dmytro Олена:olena Ірина:iryna Тарас:taras", "Шевченко:shevchenko Коваль:koval Мельник:melnyk"),
    ("Ελένη:eleni Γιώργος:giorgos Νίκος:nikos", "Παπαδόπουλος:papadopoulos Νικολάου:nikolaou"),
    ("أحمد:ahmed فاطمة:fatima يوسف:youssef ليلى:layla", "حسن:hassan منصور:mansour خليل:khalil"),
    ("Priya Arjun Ananya Rohan Lakshmi Vikram", "Sharma Iyer Reddy Venkataraman Kaur Banerjee"),
    ("Chidi Ngozi Amara Kwame Abena Thabo", "Okafor Adeyemi Mensah Nkosi Diop N'Diaye:ndiaye"),
    ("İpek:ipek Çağla:cagla Emre Şükrü:sukru", "Yılmaz:yilmaz Öztürk:ozturk Güneş:gunes Aydın:aydin"),
)
_DEPARTMENTS = (
    "Engineering", "Sales", "Marketing", "Finance", "People", "Legal", "Support", "Operations", "Security", "Design",
    "Research", "Procurement", "Facilities", "Data", "Quality",
)  # fmt: skip
_PLACES = ("Berlin", "London", "São Paulo", "東京", "Austin", "Kraków", "Lagos", "Bengaluru", "Montréal", "Zürich")
_OUTSIDE = 0.2
"""This part of the groups is not bound to the application."""


def organisation(users: int, groups: int, seed: int = 0) -> dict[str, Any]:
    """A seed document with one organisation of so many users and groups, and an API key (`API_KEY`).

    Most groups are bound to the application "Keeper", the last of them without members; the others leave
    some users out of scope. Users are in one to four groups, two are bound directly. About 3 in 100 are
    suspended, 1 in 100 staged.
    """
    draw = random.Random(seed)
    home, keeper, other, *ids = (object_id(number) for number in range(3 + users + groups))
    people = _people(draw, ids[:users])
    teams: list[dict[str, Any]] = [
        {"id": one, "name": _group_name(number), "members": []} for number, one in enumerate(ids[users:])
    ]
    unbound = round(groups * _OUTSIDE)
    bound, outside = teams[: groups - unbound], teams[groups - unbound :]
    # The last bound group stays empty; people out of scope are only in groups that are not bound.
    inside = bound[:-1] or bound
    for person in people[:-1]:  # the last one is only bound directly
        own = outside if outside and (not inside or draw.random() < _OUTSIDE / 2) else inside
        for team in draw.sample(own, min(len(own), draw.choices((1, 2, 3, 4), (50, 30, 15, 5))[0])):
            team["members"].append(person["id"])
    return {
        "organizations": [
            {
                "id": home,
                "name": "Example",
                "users": people,
                "groups": teams,
                "applications": [
                    {
                        "id": keeper,
                        "displayLabel": APPLICATION,
                        "groups": [team["id"] for team in bound],
                        "users": [person["id"] for person in people[-2:]],
                    },
                    {
                        "id": other,
                        "displayLabel": "Wiki",
                        "name": "wiki",
                        "displayName": "Wiki",
                        "groups": [team["id"] for team in teams[:1]],
                    },
                ],
            }
        ],
        "api_keys": [{"key": API_KEY, "organization": home}],
        "service_accounts": [],
        "issued": 3 + users + groups,
    }


def _people(draw: random.Random, ids: list[str]) -> list[dict[str, Any]]:
    cultures = [tuple(_spelled(names) for names in culture) for culture in _NAMES]
    taken: Counter[str] = Counter()
    people = []
    for number, one in enumerate(ids):
        given, family = draw.choice(cultures)
        (first, first_plain), (last, last_plain) = draw.choice(given), draw.choice(family)
        name = f"{first_plain}.{last_plain}"
        taken[name] += 1
        username = name if taken[name] == 1 else f"{name}{taken[name]}"
        person = {
            "id": one,
            "email": f"{username}@{DOMAIN}",
            "username": username,
            "firstname": first,
            "lastname": last,
            "department": draw.choice(_DEPARTMENTS),
            "employeeIdentifier": f"E{number + 1:06}",
        }
        _vary(draw, person)
        people.append(person)
    return people


def _vary(draw: random.Random, person: dict[str, Any]) -> None:
    """What makes some people unlike the others: their state, and how their records were typed."""
    chance = draw.random()
    if chance < 0.03:
        person |= {"state": "SUSPENDED", "suspended": True}
    elif chance < 0.04:
        person |= {"state": "STAGED", "activated": False}
    elif chance < 0.05:
        person["activated"] = False
    elif chance < 0.06:
        person["account_locked"] = True
    elif chance < 0.07:
        del person["firstname"]
    elif chance < 0.09:
        person["email"] = person["email"].title().replace(".Com", ".com")
    elif chance < 0.2:
        person["displayname"] = f"{person['firstname']} {person['lastname']}"


def _spelled(names: str) -> list[tuple[str, str]]:
    """Pairs of a name and its spelling in e-mail addresses."""
    pairs = [name.partition(":") for name in names.split()]
    return [(name, plain or name.lower().replace("'", "")) for name, _, plain in pairs]


def _group_name(number: int) -> str:
    """Departments first, then departments at places, then numbered ones: all different."""
    department = _DEPARTMENTS[number % len(_DEPARTMENTS)]
    round_ = number // len(_DEPARTMENTS)
    if round_ == 0:
        return department
    place = _PLACES[(round_ - 1) % len(_PLACES)]
    again = (round_ - 1) // len(_PLACES)
    return f"{department} {place}" if again == 0 else f"{department} {place} {again + 1}"
