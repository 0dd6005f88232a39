"""The three services in one process."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.escalation import app as escalation
from services.escalation.app import EscalationService
from services.intake import app as intake
from services.intake.app import IntakeService
from services.ledger import app as ledger
from services.ledger.app import LedgerService
from shared.clock import Clock
from shared.http.web import Service
from shared.settings import Settings


@dataclass(frozen=True)
class AllServices:
    intake: IntakeService
    escalation: EscalationService
    ledger: LedgerService

    def __iter__(self) -> Iterator[Service]:
        """In the order in which they start."""
        yield from (self.intake, self.escalation, self.ledger)


def build_all(settings: Settings, clock: Clock) -> AllServices:
    """All services against the same database, broker and clock, each with its own rights where they have some."""
    return AllServices(
        intake=intake.build(settings.of(intake.NAME), clock),
        escalation=escalation.build(settings.of(escalation.NAME), clock),
        ledger=ledger.build(settings.of(ledger.NAME), clock),
    )
