"""Record that the installation was restored from a backup."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.envelope import envelope
from shared.events import DataRestored, DataRestoredData


async def record_restore(escalation: Escalation, connection: AsyncConnection, data: DataRestoredData) -> None:
    """Emit `data.restored` in the caller's transaction, which is the one that restores."""
    head = envelope(escalation.new_id(), "installation", escalation.clock.now())
    await escalation.emit(connection, [DataRestored(**head, data=data)])
