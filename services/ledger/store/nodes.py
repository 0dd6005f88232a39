"""Hashes of the stored tree, fetched by coordinate in one query however many a proof needs."""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.domain.merkle import Coordinate

_NODES_AT = text("""
    SELECT 0 AS level, idx AS pos, leaf_hash AS hash FROM ledger.entry WHERE idx = ANY(:leaves)
    UNION ALL
    SELECT node.level, node.pos, node.hash
    FROM unnest(CAST(:levels AS smallint[]), CAST(:positions AS bigint[])) AS wanted (level, pos)
    JOIN ledger.node USING (level, pos)
""")


async def nodes_at(connection: AsyncConnection, places: Iterable[Coordinate]) -> dict[Coordinate, bytes]:
    """The hashes at `places`; what is not stored is not in the result."""
    wanted = set(places)
    inner = [place for place in wanted if place[0]]
    rows = await connection.execute(
        _NODES_AT,
        {
            "leaves": [position for level, position in wanted if level == 0],
            "levels": [level for level, _ in inner],
            "positions": [position for _, position in inner],
        },
    )
    return {(row.level, row.pos): row.hash for row in rows}
