"""Routes under `/ledger/v1`: pages and single entries, proofs, checkpoints, exports. Entries are the auditor's.

An entry is always written `{"index": …, "leaf_hash": "hex", "body": {…}}` with the body's stored bytes verbatim,
so what a client hashes is what the log hashed.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.api.models import ConsistencyProof, EntriesQuery, EntryItem, EntryPage, InclusionProof
from services.ledger.application import Ledger
from services.ledger.domain import export, merkle
from services.ledger.domain.merkle import Coordinate, Plan
from services.ledger.store import queries
from services.ledger.store.nodes import nodes_at
from services.ledger.store.queries import EntryRow, Head
from shared.http import cursor as cursors
from shared.http.guard import guarded
from shared.http.problem import FieldError, Problem, invalid

router = APIRouter(tags=["entries and proofs"])
BIGINT = 2**63


async def _ledger(request: Request) -> Ledger:
    return request.app.state.ledger


Wired = Annotated[Ledger, Depends(_ledger)]
auditors = [guarded]
Index = Annotated[int, Path(ge=0, lt=BIGINT)]
Size = Annotated[int, Query(ge=0, lt=BIGINT)]


class Export(StreamingResponse):
    media_type = "application/x-ndjson"


@router.get("/entries", response_model=EntryPage, dependencies=auditors)
async def list_entries(ledger: Wired, query: Annotated[EntriesQuery, Query()]) -> Response:
    """Entries by index, oldest first unless `order=desc`; every filter given must hold."""
    after = _index_key(query.cursor, query.order) if query.cursor else None
    is_descending = query.order == "desc"
    async with ledger.database.connect() as connection:
        rows = await queries.page(
            connection, query.wanted(), after=after, descending=is_descending, limit=query.limit + 1
        )
        head = await _head(connection)  # after the page, so that `size` covers all of it
    kept = rows[: query.limit]
    following = cursors.encode([query.order, kept[-1].idx]) if len(rows) > query.limit else None
    items = b",".join(_line(row) for row in kept)
    content = b'{"items":[%s],"next":%s,"size":%d}' % (items, orjson.dumps(following), head.size)
    return Response(content, media_type="application/json")


@router.get("/entries/{index}", response_model=EntryItem, dependencies=auditors)
async def get_entry(ledger: Wired, index: Index) -> Response:
    """One entry."""
    async with ledger.database.connect() as connection:
        row = await queries.one(connection, index)
    if row is None:
        raise Problem(404, f"no entry {index} in the log")
    return Response(_line(row), media_type="application/json")


@router.get("/entries/{index}/proof", dependencies=auditors)
async def get_inclusion_proof(ledger: Wired, index: Index, size: Size | None = None) -> InclusionProof:
    """That the entry is in the log of `size`; without it, of the newest checkpoint."""
    async with ledger.database.connect() as connection:
        size = await _size(connection, size, "size")
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


@router.get("/consistency", dependencies=auditors)
async def get_consistency_proof(ledger: Wired, first: Size, second: Size | None = None) -> ConsistencyProof:
    """That the log of size `first` is a prefix of that of `second`; without it, of the newest checkpoint."""
    async with ledger.database.connect() as connection:
        second = await _size(connection, second, "second")
        if first > second:
            raise invalid([FieldError("#/first", f"{first} is larger than the second size {second}")])
        plan = merkle.consistency_plan(first, second)
        nodes = await _nodes(connection, [*plan, merkle.subtrees(0, first), merkle.subtrees(0, second)])
    return ConsistencyProof(
        first=first,
        second=second,
        first_root=_root(nodes, first),
        second_root=_root(nodes, second),
        path=[value.hex() for value in merkle.proof(plan, nodes)],
    )


@router.get(
    "/checkpoint",
    response_class=PlainTextResponse,
    responses={200: {"description": "origin, size, root and signatures, a line each (C2SP tlog-checkpoint)"}},
)
async def get_checkpoint(ledger: Wired) -> PlainTextResponse:
    """The newest C2SP signed note; public, so that anybody can keep one."""
    async with ledger.database.connect() as connection:
        return PlainTextResponse((await _head(connection)).note)


@router.get(
    "/export",
    response_class=Export,
    dependencies=auditors,
    responses={200: {"description": "a header line, then a line an entry; `trucban ledger verify` checks it off-line"}},
)
async def get_export(ledger: Wired, format: Literal["ndjson"] = "ndjson") -> Export:  # noqa: A002
    """The whole log up to the newest checkpoint, for `trucban ledger verify`."""
    async with ledger.database.connect() as connection:
        head = await _head(connection)
    headers = {"Content-Disposition": f'attachment; filename="trucban-ledger-{head.size}.{format}"'}
    return Export(export_lines(ledger, head), headers=headers)


async def export_lines(ledger: Ledger, head: Head) -> AsyncGenerator[bytes]:
    """Lines, each ended. What is gone from the database is simply missing, for the verifier to tell."""
    yield export.header(ledger.signer.verifier, head.note) + b"\n"
    async for rows in queries.chunks(ledger.database, head.size):
        yield b"".join(_line(row) + b"\n" for row in rows)


def _line(row: EntryRow) -> bytes:
    return export.line(row.idx, row.leaf_hash, row.body)


async def _head(connection: AsyncConnection) -> Head:
    found = await queries.newest_checkpoint(connection)
    if found is None:
        raise Problem(503, "the log has no checkpoint yet: start the ledger service")
    return found


async def _size(connection: AsyncConnection, asked: int | None, name: str) -> int:
    newest = (await _head(connection)).size
    if asked is not None and asked > newest:
        raise invalid([FieldError(f"#/{name}", f"{asked} is beyond the log, which has {newest} entries")])
    return newest if asked is None else asked


async def _nodes(connection: AsyncConnection, plan: Plan) -> dict[Coordinate, bytes]:
    wanted = {place for places in plan for place in places}
    found = await nodes_at(connection, wanted)
    if missing := wanted - found.keys():
        raise Problem(500, f"the stored tree lacks {len(missing)} nodes: run `trucban ledger verify`")
    return found


def _root(nodes: Mapping[Coordinate, bytes], size: int) -> str:
    return merkle.Frontier(size, [nodes[place] for place in merkle.subtrees(0, size)]).root().hex()


def _index_key(cursor: str, order: str) -> int:
    match cursors.decode(cursor, 2):
        case [kind, int(index)] if kind == order and 0 <= index < BIGINT:
            return index
        case _:
            raise invalid([FieldError("#/cursor", "not a cursor of this list: start again without one")])
