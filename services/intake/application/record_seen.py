"""Record uses of revoked credentials, and keep the tokens of before that were used."""

from services.intake import store
from services.intake.application.intake import Intake
from shared.credentials.refusals import Seen, refusal_event
from shared.credentials.store import put_old_tokens
from shared.events import encode
from shared.messaging import INTAKE, Outgoing, add, route

NAME = "intake"


async def record_seen(intake: Intake, seen: Seen) -> None:
    """One transaction, with an event of each credential and minute."""
    now = intake.clock.now()
    events = [refusal_event(NAME, refused, count, now) for refused, count in seen.refused]
    stream = route(INTAKE, "", intake.partitions)
    outgoing = [Outgoing(event.id, stream, encode(event)) for event in events]
    async with intake.database.begin() as connection:
        await put_old_tokens(connection, store.credentials, seen.old)
        await add(connection, store.outbox, outgoing, partitions=intake.partitions)
    intake.wake()
