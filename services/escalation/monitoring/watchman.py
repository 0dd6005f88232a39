"""The watch over the service itself: what it forgot to do, as metrics and as sentences for the operator."""

from datetime import datetime, timedelta
from math import inf

from services.escalation.application import metrics
from services.escalation.application.escalation import Escalation
from services.escalation.store import watch
from services.escalation.store.watch import STANDSTILL_LATE, Watch
from shared.clock import monotonic
from shared.database import reading

WATCH_SECONDS = 15.0
SENTENCES = {
    "unwatched": "{count} open incidents wait for nobody, the oldest opened {age} ago: nobody "
    "would be asked again; GET /escalation/v1/incidents, act on each",
    "deadlines": "{count} due times passed without anything being done, the oldest {age} ago: see the log for "
    "'incident cannot be handled', and for 'loop step failed', then start the service again",
    "deliveries": "{count} deliveries are overdue, the oldest by {age}: see the log for 'loop step failed', "
    "and whether their channels answer",
    "postponed": "{count} notices were put off again and again, the oldest for {age}: see which server takes too few "
    "or does not answer, at the deliveries that failed in GET /escalation/v1/incidents/{{id}}; correct the contacts "
    "that use it, and check the clock",
    "offices": "{count} notices to the desk or the leadership reached nobody, the oldest given up {age} ago: "
    "correct the channel of the office, then acknowledge each at POST /escalation/v1/incidents/{{id}}"
    "/acknowledgements",
}
"""What is wrong and what to do, by the kind of what was forgotten."""


class Watchman:
    """Looks for what was forgotten. A loop calls `step`, so that the metrics are true whoever asks for them."""

    def __init__(self, escalation: Escalation) -> None:
        self._escalation = escalation

    async def step(self) -> bool:
        await self.health_failures()
        return False

    async def health_failures(self) -> dict[str, str | None]:
        """Look now, and set the metrics. Returns what is wrong by name, None where all is well."""
        async with reading(self._escalation.database).connect() as connection:
            now = self._escalation.clock.now()
            seen = await watch.look(connection, now, self._standstill())
        for kind, found in seen.kinds.items():
            metrics.forgotten.labels(kind).set(found.count)
            metrics.forgotten_seconds.labels(kind).set(found.age(now).total_seconds())
        return health_failures(seen, now)

    def _standstill(self) -> list[str]:
        """The kinds of work of which this process has done nothing for some time."""
        worked, since = self._escalation.worked, monotonic() - STANDSTILL_LATE.total_seconds()
        return [kind for kind in ("deadlines", "deliveries") if worked.get(kind, -inf) < since]


def health_failures(seen: Watch, now: datetime) -> dict[str, str | None]:
    """Return what is wrong, for `/readyz`, under names that begin with `watch.`. None where all is well."""
    return {
        f"watch.{kind}": SENTENCES[kind].format(count=found.count, age=_words(found.age(now))) if found.count else None
        for kind, found in seen.kinds.items()
    }


def _words(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
