"""The watch over the watch: what was forgotten, as metrics and complaints; and a sign of life to somebody outside."""

from collections.abc import Awaitable, Callable, Sequence

import httpx
import structlog

from services.escalation.application import metrics
from services.escalation.application.escalation import Escalation
from services.escalation.store import watch
from shared.http.web import Check

log = structlog.get_logger()
WATCH_SECONDS = 15.0
HEARTBEAT_SECONDS = 60.0
ANSWER_SECONDS = 10.0


class Watchman:
    """`step` is for a loop, so that the metrics are true whoever asks for them."""

    def __init__(self, escalation: Escalation) -> None:
        self._escalation = escalation

    async def step(self) -> bool:
        await self.health_failures()
        return False

    async def health_failures(self) -> dict[str, str | None]:
        """By name, None for what is well; looked at now."""
        async with self._escalation.database.connect() as connection:
            now = self._escalation.clock.now()
            seen = await watch.look(connection, now)
        for kind, found in seen.kinds.items():
            metrics.forgotten.labels(kind).set(found.count)
            metrics.forgotten_seconds.labels(kind).set(found.age(now).total_seconds())
        return seen.health_failures(now)


class Heartbeat:
    """Calls `url` while every check is well, and keeps silent otherwise: so whoever watches it outside raises the alarm
    when we fail, and as well when we are gone. The address is a secret, and in no log."""

    def __init__(self, url: str, checks: Callable[[], Awaitable[Sequence[Check]]]) -> None:
        self._url, self._checks = url, checks

    async def step(self) -> bool:
        """Raises nothing: that the watcher cannot be reached is what it is there to notice."""
        outcome = "sent"
        try:
            if all(check.ok for check in await self._checks()):
                async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
                    (await client.post(self._url)).raise_for_status()
            else:
                outcome = "withheld"
        except httpx.HTTPError as error:
            outcome = "failed"
            log.warning("heartbeat not delivered", error=type(error).__name__)
        except Exception as error:
            outcome = "withheld"
            log.warning("heartbeat withheld, readiness is not known", error=type(error).__name__)
        metrics.heartbeats.labels(outcome).inc()
        return False
