"""A relay in its own process, to be killed: `python -m tests.integration.messaging_relay REDIS DATABASE SCHEMA`."""

import asyncio
import sys

from sqlalchemy import MetaData

from shared import messaging
from shared.database import connect
from shared.messaging import Relay
from tests.integration.messaging_support import seals_of


async def main(redis_url: str, database_url: str, schema: str) -> None:
    outbox = messaging.outbox_tables(MetaData(schema=schema))
    streams = {messaging.stream_name(schema, 0): ("escalation",)}
    engine, redis, seals = connect(database_url), messaging.connect(redis_url), seals_of(schema)
    async with Relay(engine, redis, outbox, streams, seals, batch=20).running():
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
