"""Record what an operator did to the installation itself."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.envelope import envelope
from shared.events import DataRestored, DataRestoredData, PartitionsChanged, PartitionsChangedData


async def record_restore(escalation: Escalation, connection: AsyncConnection, data: DataRestoredData) -> None:
    """Emit `data.restored` in the caller's transaction, which is the one that restores."""
    head = envelope(escalation.new_id(), "installation", escalation.clock.now())
    await escalation.emit(connection, [DataRestored(**head, data=data)])


async def record_partitions(escalation: Escalation, connection: AsyncConnection, data: PartitionsChangedData) -> None:
    """Emit `partitions.changed` in the caller's transaction, which is the one that changes them."""
    head = envelope(escalation.new_id(), "installation", escalation.clock.now())
    await escalation.emit(connection, [PartitionsChanged(**head, data=data)])
