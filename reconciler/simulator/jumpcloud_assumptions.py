"""What JumpCloud's documentation leaves open, in one place, so that tests can play either reading."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Assumptions:
    """The readings that the simulated JumpCloud plays. The defaults are the likely ones."""

    total_count_header: bool = True
    """V2 lists carry `x-total-count`: seen in replies, not in the API description of these routes."""

    totals: Literal["list", "page"] = "list"
    """The rows that totals count: the whole list, or the rows of the page that carries them."""

    page_rows: int | None = None
    """How many rows a page holds at most, whatever `limit` asks for; None: as many as it asks for."""

    shifting_rows: bool = False
    """Lists move on by one row with each request, as while many records change: no two readings are alike."""

    unknown_parameters: Literal["refused", "ignored"] = "refused"
    """What happens to a query parameter that a route does not document. "ignored" is what many services do;
    then `fields` at the single application does not keep its private key out of the answer."""

    users_limit: int = 100
    """The highest `limit` of the V1 user lists. 100 is documented for other lists and was enforced on some;
    JumpCloud's own PowerShell module asks for 1000 users."""

    search_paging: Literal["body", "query", "both"] = "both"
    """Where `POST /api/search/systemusers` reads `limit` and `skip`: its description shows them in the body,
    a fuller one in the query. "both" reads the body first. The place that does not count is ignored."""

    search_in_operator: bool = False
    """Whether the search filter takes `$in`; not documented, refused with 400 if not."""

    alias_beside_fields: bool = False
    """Whether V1 rows carry `id`, the twin of `_id`, also where `fields` does not ask for it."""

    unstable_rows: bool = True
    """V1 rows come in another order for every request with `skip` or `filter` but without `sort=_id`; the
    documentation says that rows may otherwise be missing or double."""

    user_state: bool = True
    """Users carry `state`; replies of early 2021 had only `suspended`."""

    unset: Literal["empty", "null", "absent"] = "empty"
    """How a user's field without a value is shown; all three have been seen."""

    application_organization: bool = True
    """Applications name their `organization`; described, but not always seen."""

    inactive_users_listed: bool = True
    """Suspended and staged users stay in the application's user list, since their bindings are kept."""

    paths_limit: int | None = None
    """How many paths an element of a graph list shows at most; whether they are ever cut is not documented."""

    gone_status: Literal[404, 410] = 404
    """The status for records that are not there, and for graph lists of them; 410 is in JumpCloud's list of codes."""

    state_filter: Literal["heeded", "refused", "ignored"] = "heeded"
    """The way V1's user list treats filters on `state` and `suspended`; only described in general."""

    unknown_in_graph: Literal["refused", "empty"] = "refused"
    """The graph lists of an unknown or deleted application, group or user: 404, or an empty 200."""

    graph_lag: float = 0.0
    """How many seconds the graph lists (V2 associations, members, users, ...) lag behind a change."""

    dead_entries: Literal["gone", "counted", "uncounted", "null"] = "gone"
    """What a deleted object leaves in the graph lists: nothing; a row that is counted and paged over but not
    shown, so that pages get short; the same without being counted; or a row that is `null` and counted."""

    account_needs_organization: bool = False
    """Service accounts must send `x-org-id`, as JumpCloud's serverless examples do; API keys of one
    organisation need not."""

    requests_per_second: float | None = None
    """The rate limit: a bucket of as many requests as one second gives, at least one; beyond it 429. Numbers
    are not published."""

    retry_after: int | None = None
    """The seconds that a 429 gives in `Retry-After`; not documented whether it is sent at all."""
