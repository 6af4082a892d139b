"""The clock of a service, as the service's replies show it."""

import re
from collections import deque
from collections.abc import Mapping
from statistics import median

from reconciler.http_replies import declares_json, http_date
from reconciler.pace import Clock

REPLIES = 3
"""The newest replies that must agree before their clock is believed."""
AGREEMENT = 5.0
"""Seconds by which the clocks in these replies may differ; `Date` has whole seconds."""
POSSIBLE = range(946_684_800, 7_258_118_400)
"""The years 2000 to 2199, in seconds since 1970. Near the year 9999 a grace or a pause would end beyond what a time can
be."""

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


class ServiceClock:
    """The clock of one service, against the boot time of this machine.

    The wall clock may be put while the process runs; boot time goes on, also while the machine sleeps.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._differences: deque[float] = deque(maxlen=REPLIES)

    def learn(self, headers: Mapping[str, str], received: float) -> None:
        """Take the clock of one definite reply. `received`: the boot time at which its head was there.

        The time is `Date` (RFC 9110 section 6.6.1) plus `Age` (RFC 9111 section 5.1), since a cache on the way
        keeps the `Date` of the service. A reply that is not JSON, has no possible `Date`, or has an `Age` that is
        no number, says nothing: a proxy may have made it.
        """
        said = http_date(headers.get("date", ""))
        age = headers.get("age", "0").strip()
        if said is not None and int(said) in POSSIBLE and _SECONDS.fullmatch(age) and declares_json(headers):
            self._differences.append(said + int(age) - received)

    def offset(self) -> float | None:
        """Seconds by which the service's clock is ahead of the wall clock now; None where that is not known.

        It is known while the three newest replies agree within five seconds: then it is their median.
        """
        newest = self._differences
        if len(newest) < REPLIES or max(newest) - min(newest) > AGREEMENT:
            return None
        return median(newest) + self._clock.boottime() - self._clock.wall()
