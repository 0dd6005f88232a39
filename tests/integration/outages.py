"""What a database does when it is full, slow or forbidden: provoked where a test wants it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import text

from tests.integration.escalation_support import City
from tests.integration.messaging_support import World


@asynccontextmanager
async def refused(world: World | City, table: str, sqlstate: str) -> AsyncGenerator[None]:
    """Each new row of the table is refused so."""
    function = f"{table.partition('.')[0]}.refuse"
    await run(
        world,
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'không còn chỗ' USING ERRCODE = '{sqlstate}'; END $$",
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
    )
    try:
        yield
    finally:
        await run(world, f"DROP FUNCTION {function} CASCADE")


async def run(where: World | City, *statements: str) -> None:
    engine = where.engine if isinstance(where, World) else where.escalation.database
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
