"""What is wrong with PostgreSQL and Redis, and with what they hold. Nothing is left behind."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.doctor.contacts import look_at_channels
from services.cli.doctor.finding import Finding
from services.cli.doctor.settings import check_channels
from services.escalation.app import connect_escalation
from services.escalation.application.channel_tests import find_unconfirmed
from services.escalation.application.escalation import Escalation
from services.escalation.application.find_coverage import find_coverage
from services.escalation.domain.directory.coverage import Coverage
from services.escalation.monitoring.watchman import Watchman
from shared import messaging
from shared.clock import CLOCK_SLACK, Clock, local
from shared.credentials.refusals import OldToken
from shared.credentials.store import credential_tables, old_tokens
from shared.database import SERVICES, schema_version
from shared.messaging import (
    PartitionsError,
    check_partitions,
    dead_letter_health_failure,
    dead_letter_table,
    describe_error,
    outbox_tables,
    partitions_in,
)
from shared.probe import commit_nothing
from shared.settings import Settings

OLDEST_POSTGRESQL, OLDEST_REDIS = (15,), (6, 2)
"""The oldest versions that are tested."""
PRODUCERS = ("intake", "escalation")
SHOWN = 5
CONFIRMED_WITHIN = timedelta(days=30)
"""For so long a test of channels counts."""
Check = Callable[[], Awaitable[Sequence[Finding]]]


async def check_servers(settings: Settings) -> list[Finding]:
    """`settings`: with the address of the database. A check that fails is a finding, and those after it go on."""
    async with _escalation(settings) as escalation:
        found = await _check_database(escalation, settings)
    return found + await _tried("broker", "Redis", "check REDIS_URL and its server", lambda: _redis(settings))


async def _check_database(escalation: Escalation, settings: Settings) -> list[Finding]:
    """Nothing is asked of a server that does not answer, nor of schemas of another version."""
    database, see = escalation.database, "see the log of the database"
    try:
        found = await _server(database)
        if outdated := await _schemas(database):
            return [*found, *outdated]
    except Exception as error:  # whatever it is, the other checks go on
        return [Finding("database", "PostgreSQL", describe_error(error), "check DATABASE_URL and its server")]
    found += await _tried("database", "writing", see, lambda: _writing(database))
    found += await _tried("partitions", "TRUCBAN_PARTITIONS", see, lambda: _partitions(database, settings))
    found += await _tried("watch", "the watch", see, lambda: _watch(escalation))
    found += await _tried("directory", "the directory", see, lambda: _directory(escalation))
    found += await _tried("tokens", "tokens", see, lambda: _old_tokens(database))
    if not check_channels(settings):
        found += await _tried("contacts", "channels of people", see, lambda: look_at_channels(escalation, settings))
    return found + await _tried("contacts", "tests of contacts", see, lambda: _contacts(escalation))


@asynccontextmanager
async def _escalation(settings: Settings) -> AsyncGenerator[Escalation]:
    escalation = connect_escalation(settings, Clock(settings.clock))
    try:
        yield escalation
    finally:
        await escalation.database.dispose()


async def _tried(check: str, what: str, way_out: str, look: Check) -> list[Finding]:
    try:
        return [*await look()]
    except Exception as error:  # whatever it is, the other checks go on
        return [Finding(check, what, describe_error(error), way_out)]


async def _server(database: AsyncEngine) -> list[Finding]:
    async with database.connect() as connection:
        number = int(await connection.scalar(text("SELECT current_setting('server_version_num')")) or 0)
        theirs = await connection.scalar(text("SELECT clock_timestamp()"))
        ours = datetime.now(UTC)
    found = check_clocks(ours, theirs) if theirs is not None else []
    return [*found, *check_version("database", "PostgreSQL", f"{number // 10_000}", OLDEST_POSTGRESQL)]


def check_clocks(ours: datetime, theirs: datetime) -> list[Finding]:
    """Compare this machine's clock with the database's."""
    apart = abs(ours - theirs)
    if apart <= CLOCK_SLACK:
        return []
    way_out = "let both follow a time server (NTP): deadlines go by one, and are recorded by the other"
    value = f"{apart.total_seconds():.0f} s apart from the database's"
    return [Finding("clock", "this machine's clock", value, way_out)]


def check_version(check: str, what: str, version: str, oldest: tuple[int, ...]) -> list[Finding]:
    numbers = tuple(int(part) for part in version.split(".")[: len(oldest)])
    if numbers >= oldest:
        return []
    value = f"{version} is older than {'.'.join(map(str, oldest))}, the oldest that is tested"
    return [Finding(check, f"the version of {what}", value, "upgrade the server")]


async def _schemas(database: AsyncEngine) -> list[Finding]:
    found: list[Finding] = []
    async with database.connect() as connection:
        for service in SERVICES:
            stored, newest = await schema_version(connection, service)
            if stored != newest:
                value = f"is at version {stored or 'none'}, the newest is {newest}"
                found.append(Finding("schema", f"schema {service}", value, "run trucban migrate"))
    return found


async def _old_tokens(database: AsyncEngine) -> list[Finding]:
    """Tokens without an id that some service met: they are in no list, and end by themselves."""
    met: dict[str, OldToken] = {}
    async with database.connect() as connection:
        for service in SERVICES:
            found = await old_tokens(connection, credential_tables(MetaData(schema=service)))
            met |= {token.digest: token for token in found}
    return [
        Finding(
            "tokens",
            f"a token of {token.role} {token.subject} from {local(token.issued_at):%Y-%m-%d}",
            f"has no id, and holds until {local(token.expires_at):%Y-%m-%d}",
            f"issue another, then: trucban token revoke --subject {token.subject}",
        )
        for token in met.values()
    ]


async def _writing(database: AsyncEngine) -> list[Finding]:
    """What readiness proves: that a transaction with the locks and the room of a real one commits."""
    for service in SERVICES:
        metadata = MetaData(schema=service)
        dead_letter_table(metadata)
        await commit_nothing(database, metadata)
    return []


async def _partitions(database: AsyncEngine, settings: Settings) -> list[Finding]:
    count = settings.partitions
    async with database.connect() as connection:
        for service in PRODUCERS:
            outbox = outbox_tables(MetaData(schema=service))
            try:
                check_partitions(count, await partitions_in(connection, outbox.epochs, count, outbox.streams))
            except PartitionsError as error:
                return [Finding("partitions", "TRUCBAN_PARTITIONS", str(count), str(error))]
    return []


async def _watch(escalation: Escalation) -> list[Finding]:
    """What readiness says of what was forgotten, and of dead letters."""
    failures = await Watchman(escalation).health_failures()
    for service in SERVICES:
        table = dead_letter_table(MetaData(schema=service))
        failures[f"dead letters of {service}"] = await dead_letter_health_failure(escalation.database, table)
    return [_of_readiness(name, said) for name, said in failures.items() if said is not None]


def _of_readiness(name: str, said: str) -> Finding:
    value, _, way_out = said.partition(": ")
    return Finding("watch", name, value, way_out)


async def _directory(escalation: Escalation) -> list[Finding]:
    return check_coverage(await find_coverage(escalation))


async def _contacts(escalation: Escalation) -> list[Finding]:
    """The wards where nobody in office has confirmed a test of their channels lately. A mere sample is not tested."""
    found = await find_unconfirmed(escalation, CONFIRMED_WITHIN)
    if not found.wards or not found.is_real:
        return []
    wards = [f"{unit.code} {unit.name}" for unit in found.wards]
    value = f"nobody has confirmed a test in {CONFIRMED_WITHIN.days} days in {_some(wards)}"
    return [Finding("contacts", "channels of people in office", value, "trucban contacts test, then contacts list")]


def check_coverage(lacks: Coverage) -> list[Finding]:
    """One finding a post, and one for all people whom nothing reaches."""
    if not lacks.wards:
        return [Finding("directory", "wards", "none is known, so no report is taken", "trucban import wards FILE")]
    found: list[Finding] = []
    for post in sorted({post for _, post in lacks.vacancies}):
        wards = [f"{unit.ref.code} {unit.ref.name}" for unit, vacant in lacks.vacancies if vacant == post]
        value = f"vacant in {_some(wards)}"
        found.append(Finding("directory", f"post {post}", value, "record who does: trucban import directory FILE"))
    if lacks.unreachable:
        value = f"{len(lacks.unreachable)} have no channel: {_some(lacks.unreachable)}"
        way_out = "record one each: trucban import directory FILE, with holder_id and channel"
        found.append(Finding("directory", "people in office", value, way_out))
    if lacks.idle:
        value = f"{len(lacks.idle)} never had a post or a turn: {_some(lacks.idle)}"
        way_out = "correct the holder_id, or withdraw the channel"
        found.append(Finding("directory", "people with a channel", value, way_out))
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


async def _redis(settings: Settings) -> list[Finding]:
    if settings.redis_url is None:
        return [Finding("broker", "REDIS_URL", "is not set, and DATABASE_URL is", "set both")]
    redis = messaging.connect(settings.redis_url)
    try:
        await redis.write_nothing()
        version = await redis.server_version()
    finally:
        await redis.aclose()
    return check_version("broker", "Redis", version, OLDEST_REDIS)
