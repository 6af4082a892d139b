"""Plans to report on: one in which everything bears a given name, and names that try to be more than names."""

from datetime import UTC, datetime

from reconciler.plan import (
    Cause,
    Change,
    Held,
    Kind,
    LimitUse,
    Notice,
    NoticeKind,
    Operation,
    Plan,
    Rule,
    Scope,
    Source,
    Subject,
    TeamRef,
)

AT = datetime(2026, 11, 24, 10, tzinfo=UTC)
SOURCE = Source("org", "app", "Keeper", "https://keeper.example/scim/v2/1")

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "</style><img src=x onerror=\"document.title='pwned'\">",
    '" onmouseover="document.title=\'pwned\'" x="',
    "' autofocus onfocus='document.title=1",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(1+1)",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egpj.exe\u2066",
    "a\u200bdmin\u2028",
    "a | b || \\| \\",
    "`code` ``more``` `",
    "`",
    "[link](http://evil.example)",
    "![i](http://evil.example/x.png)",
    "http://evil.example www.evil.example",
    "@here @channel <!here> #1 !5 ~x~ $y$ **bold** __u__",
    "| --- |\n# heading\n- list\n\n```\nfence",
    "<!-- comment --> &lt;b&gt; &amp;",
    "]]></svg><svg onload=alert(1)>",
    " ",
    "x" * 1000,
    "日本 👨\u200d👩\u200d👧 עברית",
]


def person(name: str, number: int = 0) -> Subject:
    return Subject("user", name, f"j-{number}", f"k-{number}")


def everything(name: str) -> Plan:
    """A plan with every kind of operation and notice, held in part, in which every word of a service is this name."""
    operations = []
    for number, kind in enumerate(Kind):
        user = kind.value.endswith("user")
        cause = Cause.DRIFT if number % 2 else Cause.JUMPCLOUD
        subject = Subject("user" if user else "team", name, f"j-{number}", f"k-{number}")
        operations.append(
            Operation(
                kind,
                subject,
                cause,
                Rule.RESTORED if number % 2 else Rule.CHANGED,
                name,
                (Change("displayName", name, name), Change(name, "", name)),
                (TeamRef(name, "j-team"),) if user else (),
                (TeamRef(name, "", "k-other"),) if user else (),
                sent=number > 1,
            )
        )
    return Plan(
        "resync",
        AT,
        Source(name, name, name, name),
        Scope(812, 31, 4100),
        tuple(operations),
        (person(name, 98), person(name, 99)),
        (Held("max_deactivations", (0,), 4, 40, name), Held(name, (0,), 0, 1, name)),
        (LimitUse("max_deactivations", 4, 1, 40), LimitUse(name, 0, 0, 0)),
        tuple(Notice(kind, person(name, number), name) for kind in NoticeKind for number in (0, 1)),
    )


def accident(people: int = 40, of: int = 200) -> Plan:
    """What is planned when the application has lost its groups: held as a whole."""
    operations = tuple(
        Operation(
            Kind.DEACTIVATE_USER,
            person(f"person{number:03}@example.com", number),
            Cause.JUMPCLOUD,
            Rule.LEFT,
            "no longer bound to the Keeper application",
            (Change("active", "true", "false"),),
            sent=False,
        )
        for number in range(people)
    )
    reason = f"{people} people would be locked of {of} active; allowed are 4 (2%)"
    return Plan(
        "cycle",
        AT,
        SOURCE,
        Scope(2, 0, 0),
        operations,
        held=(Held("max_deactivations", tuple(range(people)), 4, people, reason),),
        limits=(LimitUse("max_deactivations", 4, 0, people),),
    )


def takeover() -> Plan:
    """A plan that takes an existing team over, makes a new one, and moves somebody from one to the other."""
    old, new = TeamRef("Engineering", "j-eng", "k-eng"), TeamRef("Sales", "j-sales")
    return Plan(
        "resync",
        AT,
        SOURCE,
        Scope(3, 2, 4),
        (
            Operation(
                Kind.QUEUE_TEAM,
                Subject("team", "Sales", "j-sales"),
                Cause.JUMPCLOUD,
                Rule.GROUP_IN_SCOPE,
                "the group is in the application's scope",
            ),
            Operation(
                Kind.RENAME_TEAM,
                Subject("team", "Engineering", "j-eng", "k-eng"),
                Cause.JUMPCLOUD,
                Rule.ADOPTED,
                "the existing team is tied to its JumpCloud group",
                (Change("externalId", "", "j-eng"),),
            ),
            Operation(
                Kind.UPDATE_USER,
                person("ada@example.com", 1),
                Cause.JUMPCLOUD,
                Rule.CHANGED,
                "changed in JumpCloud",
                add=(old,),
            ),
            Operation(
                Kind.UPDATE_USER,
                person("bob@example.com", 2),
                Cause.DRIFT,
                Rule.RESTORED,
                "changed in Keeper behind our back",
                add=(new,),
                remove=(old,),
            ),
        ),
    )
