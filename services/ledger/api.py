"""HTTP of the ledger: pages and single entries, proofs, checkpoints, exports. Entries are the auditor's alone.

An entry is always written `{"index": …, "leaf_hash": "hex", "body": {…}}` with the body's stored bytes verbatim, so
what a client hashes is what the log hashed.
"""

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ledger import export, merkle
from services.ledger.checkpoint import Verifier
from services.ledger.merkle import Coordinate, Plan
from services.ledger.projection import short_kind
from services.ledger.store import queries
from services.ledger.store.nodes import nodes_at
from shared.identity import require
from shared.problem import FieldError, Problem, invalid

BIGINT = 2**63


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time has no date in UTC") from error


# U+0000 is no text for PostgreSQL
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Instant = Annotated[AwareDatetime, AfterValidator(_to_utc)]
Index = Annotated[int, Path(ge=0, lt=BIGINT)]
Size = Annotated[int, Query(ge=0, lt=BIGINT)]


class EntriesQuery(BaseModel):
    """An unknown parameter is refused: a mistyped filter must not look like a complete answer."""

    model_config = ConfigDict(extra="forbid")

    incident: Name | None = None
    ward: Name | None = None
    category: Name | None = None
    official: Name | None = None
    kind: Name | None = None
    """`report.received`, with or without prefix and version."""
    occurred_from: Instant | None = None
    occurred_to: Instant | None = None
    recorded_from: Instant | None = None
    recorded_to: Instant | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str, Field(max_length=100)] | None = None

    def wanted(self) -> queries.Filter:
        return queries.Filter(
            incident=self.incident,
            ward=self.ward,
            category=self.category,
            official=self.official,
            kind=short_kind(self.kind) if self.kind else None,
            occurred_from=self.occurred_from,
            occurred_to=self.occurred_to,
            recorded_from=self.recorded_from,
            recorded_to=self.recorded_to,
        )


class EntryItem(BaseModel):
    index: int
    leaf_hash: str
    """64 hex digits: SHA-256 of 0x00 and the body's bytes."""
    body: dict[str, Any]


class EntryPage(BaseModel):
    items: list[EntryItem]
    next: str | None
    size: int
    """Entries in the log at the newest checkpoint."""


class InclusionProof(BaseModel):
    """RFC 9162, 2.1.3; hashes in hex. `checkpoint` is the signed note of that size, where one was signed."""

    index: int
    size: int
    leaf_hash: str
    path: list[str]
    root: str
    checkpoint: str | None


class ConsistencyProof(BaseModel):
    """RFC 9162, 2.1.4; hashes in hex."""

    first: int
    second: int
    first_root: str
    second_root: str
    path: list[str]


@dataclass(frozen=True)
class Reader:
    """Answers from the database; each method reads in one connection."""

    engine: AsyncEngine
    verifier: Verifier

    async def head(self, connection: AsyncConnection) -> queries.Head:
        found = await queries.newest_checkpoint(connection)
        if found is None:
            raise Problem(503, "the log has no checkpoint yet: is the ledger service running?")
        return found

    async def page(self, query: EntriesQuery) -> bytes:
        after = _read_cursor(query.cursor, query.order) if query.cursor else None
        async with self.engine.connect() as connection:
            rows = await queries.page(
                connection,
                query.wanted(),
                after=after,
                descending=query.order == "desc",
                limit=query.limit + 1,
            )
            size = (await self.head(connection)).size
        kept = rows[: query.limit]
        following = _write_cursor(kept[-1].idx, query.order) if len(rows) > query.limit else None
        items = b",".join(_line(row) for row in kept)
        return b'{"items":[%s],"next":%s,"size":%d}' % (items, orjson.dumps(following), size)

    async def entry(self, index: int) -> bytes:
        async with self.engine.connect() as connection:
            row = await queries.one(connection, index)
        if row is None:
            raise Problem(404, f"no entry {index} in the log")
        return _line(row)

    async def inclusion(self, index: int, size: int | None) -> InclusionProof:
        async with self.engine.connect() as connection:
            size = await self._size(connection, size, "size")
            if index >= size:
                raise Problem(404, f"no entry {index} in the log of size {size}")
            plan = merkle.inclusion_plan(index, size)
            nodes = await _nodes(connection, [*plan, [(0, index)], merkle.subtrees(0, size)])
            note = await queries.note_at(connection, size)
        return InclusionProof(
            index=index,
            size=size,
            leaf_hash=nodes[0, index].hex(),
            path=[value.hex() for value in merkle.proof(plan, nodes)],
            root=_root(nodes, size),
            checkpoint=note,
        )

    async def consistency(self, first: int, second: int | None) -> ConsistencyProof:
        async with self.engine.connect() as connection:
            second = await self._size(connection, second, "second")
            if first > second:
                raise invalid([FieldError("#/first", f"{first} is larger than the second size {second}")])
            plan = merkle.consistency_plan(first, second)
            edges = [merkle.subtrees(0, first), merkle.subtrees(0, second)]
            nodes = await _nodes(connection, [*plan, *edges])
        return ConsistencyProof(
            first=first,
            second=second,
            first_root=_root(nodes, first),
            second_root=_root(nodes, second),
            path=[value.hex() for value in merkle.proof(plan, nodes)],
        )

    async def _size(self, connection: AsyncConnection, asked: int | None, name: str) -> int:
        newest = (await self.head(connection)).size
        if asked is not None and asked > newest:
            raise invalid([FieldError(f"#/{name}", f"{asked} is beyond the log, which has {newest} entries")])
        return newest if asked is None else asked

    async def export(self, head: queries.Head) -> AsyncGenerator[bytes]:
        """Lines, each ended; a stretch that is gone from the database is simply missing, for the verifier to tell."""
        yield export.header(self.verifier, head.note) + b"\n"
        async for rows in queries.chunks(self.engine, head.size):
            yield b"".join(_line(row) + b"\n" for row in rows)


def router(engine: AsyncEngine, verifier: Verifier) -> APIRouter:
    """The routes below `/ledger/v1`; `verifier` is the log's own."""
    reader = Reader(engine, verifier)
    routes = APIRouter()
    auditors = [Depends(require("auditor", "admin"))]

    @routes.get("/entries", response_model=EntryPage, dependencies=auditors)
    async def entries(query: Annotated[EntriesQuery, Query()]) -> Response:
        return Response(await reader.page(query), media_type="application/json")

    @routes.get("/entries/{index}", response_model=EntryItem, dependencies=auditors)
    async def entry(index: Index) -> Response:
        return Response(await reader.entry(index), media_type="application/json")

    @routes.get("/entries/{index}/proof", dependencies=auditors)
    async def inclusion(index: Index, size: Size | None = None) -> InclusionProof:
        return await reader.inclusion(index, size)

    @routes.get("/consistency", dependencies=auditors)
    async def consistency(first: Size, second: Size | None = None) -> ConsistencyProof:
        return await reader.consistency(first, second)

    @routes.get("/checkpoint", response_class=PlainTextResponse)
    async def checkpoint() -> PlainTextResponse:
        async with engine.connect() as connection:
            return PlainTextResponse((await reader.head(connection)).note)

    @routes.get("/export", response_class=StreamingResponse, dependencies=auditors)
    async def export_all(format: Literal["ndjson"] = "ndjson") -> StreamingResponse:  # noqa: A002 the parameter's name
        async with engine.connect() as connection:
            head = await reader.head(connection)
        name = f"trucban-ledger-{head.size}.{format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(reader.export(head), media_type="application/x-ndjson", headers=headers)

    _ = entries, entry, inclusion, consistency, checkpoint, export_all
    return routes


def _line(row: queries.EntryRow) -> bytes:
    return export.line(row.idx, row.leaf_hash, row.body)


async def _nodes(connection: AsyncConnection, plan: Plan) -> dict[Coordinate, bytes]:
    wanted = {place for places in plan for place in places}
    found = await nodes_at(connection, wanted)
    if missing := wanted - found.keys():
        raise Problem(500, f"the stored tree lacks {len(missing)} nodes: run `trucban ledger verify`")
    return found


def _root(nodes: Mapping[Coordinate, bytes], size: int) -> str:
    return merkle.Frontier(size, [nodes[place] for place in merkle.subtrees(0, size)]).root().hex()


def _write_cursor(index: int, order: str) -> str:
    return base64.urlsafe_b64encode(f"{order}:{index}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str, order: str) -> int:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        kind, _, index = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition(":")
        if kind == order and index.isdecimal() and int(index) < BIGINT:
            return int(index)
    except (ValueError, binascii.Error):
        pass
    raise invalid([FieldError("#/cursor", "not a cursor of this list: take `next` of its last page")])
