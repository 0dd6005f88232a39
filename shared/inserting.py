"""Insert rows of several tables with one statement: one message to PostgreSQL, however many rows and tables."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import orjson
from sqlalchemy import JSON, Table, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

Rows = Sequence[Mapping[str, object]]


async def insert_rows(connection: AsyncConnection, rows: Mapping[Table, Rows]) -> None:
    """Insert rows in the caller's transaction, those of each table in their order.

    All rows of a table have the same keys. A str for a JSON column must already be JSON. Rows may refer to one another,
    whatever the order of the tables.
    """
    wanted = {table: found for table, found in rows.items() if found}
    if wanted:
        shape = tuple((table, tuple(found[0])) for table, found in wanted.items())
        await connection.execute(_statement(shape), {t.name: _as_json(t, found) for t, found in wanted.items()})


@lru_cache(maxsize=512)
def _statement(shape: tuple[tuple[Table, tuple[str, ...]], ...]) -> TextClause:
    *others, last = [_insert(table, columns) for table, columns in shape]
    if not others:
        return text(last)
    parts = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(others))
    return text(f"WITH {parts} {last}")


def _insert(table: Table, columns: Sequence[str]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f"INSERT INTO {table.fullname} ({names}) SELECT {names}"  # noqa: S608 - names of ours
        f" FROM json_populate_recordset(CAST(NULL AS {table.fullname}), CAST(:{table.name} AS json))"
    )


def _as_json(table: Table, rows: Rows) -> str:
    texts = [name for name in rows[0] if isinstance(table.c[name].type, JSON)]
    if texts:
        rows = [{**row, **{name: _fragment(row[name]) for name in texts}} for row in rows]
    return orjson.dumps(rows, default=_hex).decode()


def _fragment(value: object) -> object:
    return orjson.Fragment(value) if isinstance(value, str) else value


def _hex(value: object) -> str:
    """Return bytes as PostgreSQL reads them."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"a {type(value).__name__} cannot be stored")
