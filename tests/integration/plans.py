"""How PostgreSQL answers a query of ours: its plan, and the pages that it looked at; a clock says less."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


@dataclass(frozen=True)
class Plan:
    root: dict[str, Any]

    @property
    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def read_whole(self) -> set[str]:
        """Tables that were read from end to end."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def buffers(self) -> int:
        """Pages of 8 KB, those of all nodes."""
        return int(self.root["Shared Hit Blocks"]) + int(self.root["Shared Read Blocks"])


async def plan_of(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[object]]) -> Plan:
    """The plan of the last statement of `work`."""
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    async with engine.connect() as connection:
        event.listen(engine.sync_engine, "before_cursor_execute", note)
        try:
            await work(connection)
        finally:
            event.remove(engine.sync_engine, "before_cursor_execute", note)
        statement, parameters = asked[-1]
        explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        (found,) = explained.one()
    return Plan((orjson.loads(found) if isinstance(found, str) else found)[0]["Plan"])
