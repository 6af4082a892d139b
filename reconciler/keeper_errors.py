"""What Keeper refuses, and what became of a request: each outcome with a name and words of its own."""

from typing import ClassVar


class KeeperError(Exception):
    """A request to Keeper that brought no success. The text is for the administrator.

    `name` is the outcome as the journal has it. `stops_apply`: every further request would fail in the same way.
    `uncertain`: the request may have taken effect, ask Keeper before it is repeated. `subject` was not `done`;
    `status` is the HTTP status, `detail` Keeper's own words, both as far as there are any.
    """

    name: ClassVar[str]
    stops_apply: ClassVar[bool] = False
    problem: str = ""
    advice: str = ""

    def __init__(
        self,
        subject: str,
        done: str,
        *,
        problem: str = "",
        advice: str = "",
        status: int | None = None,
        detail: str = "",
        uncertain: bool = False,
    ) -> None:
        self.subject = subject
        self.done = done
        self.problem = problem or self.problem
        self.advice = advice or self.advice
        self.status = status
        self.detail = detail
        self.uncertain = uncertain
        super().__init__(subject, done)

    @property
    def fact(self) -> str:
        """The failure and its cause, without the advice, for the words of another error or notice."""
        missed = "may or may not have been" if self.uncertain else "was not"
        answer = f" (HTTP {self.status}" if self.status else ""
        if answer:
            answer += f": {self.detail})" if self.detail else ")"
        return f"{self.subject} {missed} {self.done}: {self.problem}{answer}"

    def __str__(self) -> str:
        return f"{self.fact}. {self.advice}"


class AddressTaken(KeeperError):
    """409 for a user: the address belongs to an account that this node does not list, or is an alias of one."""

    name = "address_taken"
    problem = "the address is taken: in another node or tenant, by a personal account, or as an alias of another user"
    advice = (
        "Look for it in the Admin Console (Admin > Users, all nodes) and move that user into this node, or among the "
        "aliases, such as former addresses (Keeper Commander: enterprise-info --users --columns alias). Else its owner "
        "has to give it up, or ask Keeper support. It is tried again."
    )


class TeamNameTaken(KeeperError):
    """409 for a team: the SCIM method takes no second group of the same name."""

    name = "team_name_taken"
    problem = "the name is taken, and this SCIM method takes no second group of the same name"
    advice = (
        "Look for the team in the Admin Console (Admin > Teams): rename it there or rename the group in JumpCloud, "
        "or take the team over with `reconciler adopt --team NAME`. Commander's `scim edit --unique-groups off` "
        "permits it too, but makes a new token."
    )


class SeatsExceeded(KeeperError):
    """428: no licensed seat is free."""

    name = "seats_exceeded"
    problem = "all licensed seats are in use"
    advice = (
        "Buy seats, or free some in the Admin Console (Admin > Users): locked and merely invited users keep "
        "theirs until they are deleted; transfer a vault that is needed first. It is tried again."
    )


class BadToken(KeeperError):
    """401, also for a harmless request: Keeper does not accept the token."""

    name = "bad_token"
    stops_apply = True
    problem = "Keeper does not accept the SCIM token"
    advice = (
        "A token belongs to one SCIM method, is valid only once that is saved in the Admin Console (Admin, the "
        "node, Provisioning), and dies when another is made: Commander's `scim edit` always makes a new one. Put "
        "the current token where keeper.token points, and restart the service, if it runs: it got the token when "
        "it started."
    )


class Forbidden(KeeperError):
    """403 that is not throttling: a refusal of this one subject, or of everything, which only another request tells.
    401 too where the token is accepted otherwise."""

    name = "forbidden"
    problem = "Keeper forbids it, and not for the number of requests"
    advice = (
        "If Keeper forbids it for this one user or team alone, look for a firewall or proxy that refuses the request, "
        "and at the role and node of the user in the Admin Console. If it forbids everything, check there (Admin, the "
        "node, Provisioning) that the SCIM method is there, is saved and is of the node in keeper.scim_url, and that "
        "the licence includes automated provisioning."
    )


class UnknownNode(KeeperError):
    """404 or 410 for the endpoint itself: there is no such node, or not here."""

    name = "unknown_node"
    stops_apply = True
    problem = "Keeper knows no SCIM method at this address"
    advice = (
        "Compare keeper.scim_url with the URL in the Admin Console (Admin, the node, Provisioning): the host of "
        "your region, and the number of the node at the end."
    )


class NotFound(KeeperError):
    """404 or 410 for one user or team: deleted, moved to another node, or (a user only invited) withdrawn."""

    name = "not_found"
    problem = "it is not in this Keeper node (any more)"
    advice = (
        "Somebody deleted it or moved it to another node; a user who was only invited is gone once locked. "
        "If that is no surprise there is nothing to do: the next resync takes note of it. Otherwise look in the "
        "Admin Console (Admin > Users)."
    )


class TeamNotFound(NotFound):
    """404 or 410 for one team: deleted, moved to another node, or rejected in the Pending Queue."""

    advice = (
        "Somebody deleted it, moved it to another node or rejected it in the Pending Queue. If that is no surprise "
        "there is nothing to do: the next resync takes note of it. Otherwise look in the Admin Console (Admin > Teams)."
    )


class Refused(KeeperError):
    """400 and whatever else Keeper refuses in its own words."""

    name = "refused"
    problem = "Keeper refused it"
    advice = "Correct what Keeper names, in JumpCloud or in the Admin Console; it is tried again."


class Throttled(KeeperError):
    """429, or 403 with the error "throttled", after all retries: nothing has taken effect."""

    name = "throttled"


class Unavailable(KeeperError):
    """Keeper was not reached, or a read was not answered: nothing has taken effect."""

    name = "unavailable"


class Expired(KeeperError):
    """The change was not sent, since meanwhile its confirmation became too old, or it was overruled: nothing has taken
    effect."""

    name = "expired"


class Unanswered(KeeperError):
    """A change was sent and not answered, or answered by a 5xx: it may have taken effect."""

    name = "unanswered"
    advice = "There is nothing to do: Keeper is asked what became of it. Nothing but a lock is sent again before."


class UnexpectedReply(KeeperError):
    """A reply that is none of a SCIM service, or not about what was asked."""

    name = "unexpected_reply"
    advice = "Check keeper.scim_url, and whether a proxy answers in place of Keeper."


class Redirected(UnexpectedReply):
    """A redirect, of this one request or of everything, which only another request tells: nothing has taken effect."""


class IncompleteRead(KeeperError):
    """A list that does not add up, or holds something that can't be read. Nothing is concluded from it."""

    name = "incomplete_read"
    advice = "Nothing was changed for it; the next cycle reads again. If it stays so, ask Keeper support."
