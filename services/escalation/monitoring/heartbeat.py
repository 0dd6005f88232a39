"""A sign of life to a watcher outside, while every check is well."""

import httpx
import structlog

from services.escalation.application import metrics
from shared.http.health import Checks, ask

log = structlog.get_logger()
HEARTBEAT_SECONDS = 60.0
ANSWER_SECONDS = 10.0


class Heartbeat:
    """Calls `url` while every check is well, and is silent otherwise.

    So the watcher outside raises the alarm when we fail, and also when we are gone. The address is a secret, and is
    never logged.
    """

    def __init__(self, url: str, checks: Checks) -> None:
        self._url, self._checks = url, checks

    async def step(self) -> bool:
        """Send a heartbeat or withhold it. Raises nothing: the watcher notices if it cannot be reached."""
        outcome = "sent"
        try:
            if all(check.ok for check in await ask(self._checks)):
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
