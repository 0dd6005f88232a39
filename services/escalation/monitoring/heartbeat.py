"""A sign of life to somebody outside, while every check is well."""

from collections.abc import Awaitable, Callable, Sequence

import httpx
import structlog

from shared import metrics
from shared.http.web import Check

log = structlog.get_logger()
HEARTBEAT_SECONDS = 60.0
ANSWER_SECONDS = 10.0


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
