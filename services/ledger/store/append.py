"""The one writer of the log: entries, columns, nodes and checkpoint of a batch, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.domain import canonical, merkle
from services.ledger.domain.canonical import Entry
from services.ledger.domain.checkpoint import Checkpoint, NoteError, Signer, open_checkpoint
from services.ledger.domain.merkle import EMPTY_ROOT, Coordinate, Frontier, Node
from services.ledger.store import tables
from services.ledger.store.nodes import nodes_at
from shared.clock import Clock
from shared.events import Event

APPEND_LOCK = 0x6C_6564_6765_72
"""Advisory lock: one transaction at a time appends, in whichever process it runs."""


class LogError(Exception):
    """What is stored does not fit together, or is another log: nothing may be appended or signed."""

    sqlstate = "F0000"
    """PostgreSQL's config_file_error: only an operator can mend it. The consumer waits, instead of giving the events
    up; a start does not."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What a batch did: the size after it, and how many of its events were new."""

    size: int
    added: int


async def open_log(connection: AsyncConnection, signer: Signer, clock: Clock) -> Checkpoint:
    """The newest checkpoint; an empty log gets its first. Raises LogError for a log of another name or key."""
    await _take_lock(connection)
    note = await _newest_note(connection)
    origin = signer.verifier.name
    if note is None:
        first = Checkpoint(origin, 0, EMPTY_ROOT)
        await _add_checkpoint(connection, first, signer, clock)
        return first
    try:
        return open_checkpoint(note, signer.verifier, origin)
    except NoteError as error:
        raise LogError(
            f"the stored log is not {origin!r} under our key ({error}): "
            "restore its key file, or the TRUCBAN_LEDGER_ORIGIN that it was begun with"
        ) from error


async def append(connection: AsyncConnection, events: Sequence[Event], signer: Signer, clock: Clock) -> Appended:
    """Give each event that is not yet in the log the next index, in the order of `events`.

    Everything is in the caller's transaction, which must have written nothing to the log before. Raises LogError, and
    CanonicalError for an event that cannot be an entry; the caller then rolls back.
    """
    await _take_lock(connection)
    frontier = await _load_frontier(connection, signer)
    start = frontier.size
    new = await _leave_out_known(connection, events)
    if not new:
        return Appended(start, 0)
    now = clock.now()
    entries = [canonical.make_entry(event, signer.verifier.name, now) for event in new]
    leaves = [merkle.leaf_hash(entry.body) for entry in entries]
    nodes = frontier.extend(leaves)
    await _insert(connection, start, entries, leaves, nodes)
    head = Checkpoint(signer.verifier.name, frontier.size, frontier.root())
    await _add_checkpoint(connection, head, signer, clock)
    return Appended(frontier.size, len(new))


async def _take_lock(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": APPEND_LOCK})


async def _newest_note(connection: AsyncConnection) -> str | None:
    newest = select(tables.checkpoint.c.note).order_by(tables.checkpoint.c.size.desc()).limit(1)
    return await connection.scalar(newest)


async def _load_frontier(connection: AsyncConnection, signer: Signer) -> Frontier:
    """The right edge as it is stored, checked against the newest checkpoint: nothing is built on a changed tree."""
    note = await _newest_note(connection)
    if note is None:
        raise LogError("the log was not opened: it has no checkpoint")
    try:
        head = open_checkpoint(note, signer.verifier, signer.verifier.name)
    except NoteError as error:
        raise LogError(f"the newest checkpoint is not ours ({error}): run `trucban ledger verify`") from error
    places = merkle.subtrees(0, head.size)
    nodes: Mapping[Coordinate, bytes] = await nodes_at(connection, places)
    if len(nodes) == len(places):
        frontier = Frontier(head.size, [nodes[place] for place in places])
        if frontier.root() == head.root:
            return frontier
    raise LogError(f"the stored tree has not the root of its checkpoint of {head.size}: run `trucban ledger verify`")


async def _leave_out_known(connection: AsyncConnection, events: Sequence[Event]) -> list[Event]:
    """`events` without those in the log and without repetitions, in order."""
    by_id = {event.id: event for event in reversed(events)}
    known = await connection.scalars(
        text("SELECT event_id FROM ledger.entry WHERE event_id = ANY(:ids)"), {"ids": list(by_id)}
    )
    taken = set(known)
    new: list[Event] = []
    for event in events:
        if event.id not in taken:
            taken.add(event.id)
            new.append(event)
    return new


# One statement, and so one message. PostgreSQL unrolls arrays about as fast as it reads COPY.
_APPEND = text("""
    WITH entries AS (
        INSERT INTO ledger.entry
            (idx, event_id, leaf_hash, body, kind, incident, ward, category, occurred_at, recorded_at)
        SELECT :start + place - 1, event_id, leaf_hash, body, kind, incident, ward, category, occurred_at, recorded_at
        FROM unnest(
            CAST(:event_id AS text[]), CAST(:leaf_hash AS bytea[]), CAST(:body AS bytea[]), CAST(:kind AS text[]),
            CAST(:incident AS text[]), CAST(:ward AS text[]), CAST(:category AS text[]),
            CAST(:occurred_at AS timestamptz[]), CAST(:recorded_at AS timestamptz[])
        ) WITH ORDINALITY AS new
            (event_id, leaf_hash, body, kind, incident, ward, category, occurred_at, recorded_at, place)
    ),
    officials AS (
        INSERT INTO ledger.entry_official (official, idx)
        SELECT * FROM unnest(CAST(:official AS text[]), CAST(:official_idx AS bigint[]))
    ),
    private AS (
        INSERT INTO ledger.private (idx, field, salt, value)
        SELECT * FROM unnest(
            CAST(:private_idx AS bigint[]), CAST(:field AS text[]), CAST(:salt AS bytea[]), CAST(:value AS bytea[])
        )
    )
    INSERT INTO ledger.node (level, pos, hash)
    SELECT * FROM unnest(CAST(:level AS smallint[]), CAST(:pos AS bigint[]), CAST(:hash AS bytea[]))
""")


async def _insert(
    connection: AsyncConnection,
    start: int,
    entries: Sequence[Entry],
    leaves: Sequence[bytes],
    nodes: Sequence[Node],
) -> None:
    rows = [entry.columns for entry in entries]
    columns = ("event_id", "kind", "incident", "ward", "category", "occurred_at", "recorded_at")
    values: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in columns}
    values |= {"start": start, "leaf_hash": list(leaves), "body": [entry.body for entry in entries]}
    numbered = list(enumerate(entries, start))
    officials = [(name, idx) for idx, entry in numbered for name in entry.columns.officials]
    private = [
        (idx, item.field, bytes.fromhex(item.committed.salt), item.committed.value.encode())
        for idx, entry in numbered
        for item in entry.private
    ]
    values |= _columns(("official", "official_idx"), officials)
    values |= _columns(("private_idx", "field", "salt", "value"), private)
    values |= _columns(("level", "pos", "hash"), nodes)
    await connection.execute(_APPEND, values)


def _columns(names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> dict[str, list[object]]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


async def _add_checkpoint(connection: AsyncConnection, checkpoint: Checkpoint, signer: Signer, clock: Clock) -> None:
    await connection.execute(
        insert(tables.checkpoint).values(
            size=checkpoint.size,
            root=checkpoint.root,
            note=signer.sign(checkpoint.text()),
            created_at=clock.now(),
        )
    )
