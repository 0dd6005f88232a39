"""Wiring of the escalation service."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from services.escalation.api import router
from services.escalation.api.rights import RIGHTS
from services.escalation.application import fire_timers
from services.escalation.application.adopt_rulebooks import adopt_rulebooks, packaged_rulebooks
from services.escalation.application.begin_shifts import begin_shifts
from services.escalation.application.credentials import take_seen
from services.escalation.application.due_work import next_timer_in, next_turn_in
from services.escalation.application.escalation import Escalation
from services.escalation.application.follow_clock import follow_clock
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.incidents.engine import OfficeChannels
from services.escalation.domain.notices.signed_link import LinkSigner
from services.escalation.monitoring.broadcast import Broadcast
from services.escalation.monitoring.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from services.escalation.monitoring.loop import STALL_SECONDS, Loop
from services.escalation.monitoring.watchman import WATCH_SECONDS, Watchman
from services.escalation.sending.channels import Sender, WayOut, print_line
from services.escalation.sending.delivery_loop import DeliveryLoop
from services.escalation.store import tables
from shared import messaging, pseudonym
from shared.clock import Clock
from shared.credentials.following import Following, handing_over
from shared.database import SERVICE, TimeLimits, connect
from shared.events import AnyReport, Event, parse
from shared.halving import Slices
from shared.http.health import Check, checks_of
from shared.http.identity import verifier
from shared.http.web import Service, rate_of, service_app
from shared.keys import secret
from shared.messaging import (
    ESCALATION,
    INTAKE,
    Consumer,
    DeadLetterRetries,
    Left,
    Outbox,
    Relay,
    dead_letter_health_failure,
    settle_partitions,
)
from shared.operator import operator
from shared.probe import Probe, commit_nothing
from shared.settings import Settings

log = structlog.get_logger()
NAME = "escalation"
POOL_SIZE = 11
"""Connections for the work, and one that the relay of revocations holds; the other relay holds one a partition beside
them."""
POLL_SECONDS = 5.0
"""How late a loop acts at most on what another process has stored since. Its own commits wake it."""
SHIFTS_SECONDS = 15.0
"""The same of turns of duty that another process has recorded."""
GATHER_SECONDS = 0.05
"""How long the relay waits to fill a batch. Its events only inform the ledger and the receipts, so that larger batches
are worth it."""
REPORTS_AT_ONCE = 2_000
"""How many reports one transaction takes. In a storm many are of one incident, which makes them fast together."""


@dataclass(frozen=True, kw_only=True)
class EscalationService(Service):
    """Escalation as it runs in a process."""

    escalation: Escalation
    loops: Sequence[Loop]
    """Act on due times, and send."""
    broadcast: Broadcast
    outbox: Outbox
    """Where its events wait until they are published."""

    def clock_moved(self) -> None:
        """Let the loops look at once what is due."""
        for loop in self.loops:
            loop.wake()


def connect_escalation(settings: Settings, clock: Clock, *, limits: TimeLimits = SERVICE) -> Escalation:
    """What the use cases need, against `settings.database_url`. Dispose of its `database` in the end."""
    assert settings.database_url is not None
    return Escalation(
        database=connect(settings.database_url, POOL_SIZE + settings.partitions, limits=limits),
        clock=clock,
        partitions=settings.partitions,
        channels=OfficeChannels(settings.desk_channel, settings.leadership_channel, settings.log_channel),
        pseudonym_key=secret(settings.keys_dir, pseudonym.KEY),
    )


def build(settings: Settings, clock: Clock) -> EscalationService:
    """The service against the database and the broker of `settings`, both set."""
    assert settings.redis_url is not None
    escalation = connect_escalation(settings, clock)
    tokens = verifier(settings.keys_dir)
    app = service_app(NAME, tokens, router, RIGHTS, rate_of(settings))
    app.state.escalation = escalation
    app.state.link_signer = signer = LinkSigner(secret(settings.keys_dir, "link"), settings.public_url)
    app.state.desk_telephone = settings.desk_telephone
    app.state.broadcast = broadcast = Broadcast(escalation.database)
    redis = messaging.connect(settings.redis_url)
    commits, broker = Probe(partial(commit_nothing, escalation.database, tables.metadata)), Probe(redis.write_nothing)
    seals = messaging.seals(settings.keys_dir)
    relay = Relay(
        escalation.database,
        redis,
        tables.outbox,
        messaging.streams(ESCALATION, settings.partitions),
        seals,
        gather=GATHER_SECONDS,
    )
    revocations = Relay(escalation.database, redis, tables.revocation_outbox, messaging.revocation_streams(), seals)
    following = Following(escalation.database, tables.credentials.revocation, tokens.revoked, on_poll=tokens.reload)
    tokens.revoked.on_change.append(revocations.wake)  # of a command, which rings no bell
    printed = print_line if settings.print_notices else None
    telephone = settings.desk_telephone
    app.state.way_out = way_out = WayOut.of(settings)
    outbox = settings.data / "outbox.ndjson"
    sender = Sender(outbox, way_out, printed=printed, link=signer.of_notice, desk_telephone=telephone)
    sending = DeliveryLoop(escalation, sender)
    delivery = Loop("delivery", sending.step, POLL_SECONDS, next_in=sending.next_in)
    fire, next_timer = partial(_fire_due_timers, escalation), partial(_next_timer_in, escalation)
    timers = Loop("deadlines", fire, POLL_SECONDS, next_in=next_timer)
    begin = partial(_begin_shifts, escalation)
    turns = partial(next_turn_in, escalation)
    shifts = Loop("shifts", begin, SHIFTS_SECONDS, next_in=turns, stall_after=SHIFTS_SECONDS + STALL_SECONDS)
    escalation.wakes.extend([relay.wake, broadcast.wake, following.wake])
    escalation.delivery_wakes.append(delivery.wake)
    escalation.timer_wakes.extend([timers.wake, shifts.wake])
    watchman = Watchman(escalation)
    watch_loop = Loop("watch", watchman.step, WATCH_SECONDS)

    handle = partial(_route_reports_of, Slices(partial(route_reports, escalation), at_most=REPORTS_AT_ONCE))
    consumer = _report_consumer(settings, escalation, handle)
    retries = DeadLetterRetries(escalation.database, tables.dead_letter, parse, handle)

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(escalation.database.dispose)
            stack.push_async_callback(redis.aclose)
            outbox = tables.outbox
            await settle_partitions(escalation.database, outbox.epochs, settings.partitions, outbox.streams)
            await adopt_rulebooks(escalation.by(operator()), packaged_rulebooks())
            await follow_clock(escalation, always=True)
            stack.push_async_callback(sender.aclose)
            stack.push_async_callback(sending.drain)
            for part in (
                commits,
                broker,
                relay,
                revocations,
                following,
                delivery,
                timers,
                shifts,
                consumer,
                retries,
                watch_loop,
                broadcast,
                *heartbeat,
            ):
                await stack.enter_async_context(part.running())
            await stack.enter_async_context(handing_over(tokens.observed, partial(take_seen, escalation)))
            yield

    async def checks() -> Sequence[Check]:
        health_failures = {
            "database": commits.health_failure(),
            "broker": broker.health_failure(),
            "relay": relay.health_failure() or revocations.health_failure(),
            "consumer": consumer.health_failure(),
            "revocations": following.health_failure(),
            "delivery": delivery.health_failure() or sending.health_failure(),
            "deadlines": timers.health_failure(),
            "shifts": shifts.health_failure(),
            "stream": broadcast.health_failure(),
            **await watchman.health_failures(),
            "dead_letters": await dead_letter_health_failure(escalation.database, tables.dead_letter),
        }
        return checks_of(health_failures)

    url = settings.heartbeat_url
    heartbeat = [Loop("heartbeat", Heartbeat(url, checks).step, HEARTBEAT_SECONDS)] if url else []
    return EscalationService(
        name=NAME,
        app=app,
        running=running,
        checks=checks,
        end_connections=broadcast.close,
        escalation=escalation,
        loops=(timers, delivery, shifts),
        broadcast=broadcast,
        outbox=tables.outbox,
    )


async def _next_timer_in(escalation: Escalation) -> float:
    await follow_clock(escalation)
    return await next_timer_in(escalation)


async def _fire_due_timers(escalation: Escalation) -> bool:
    return await fire_timers.fire_due_timers(escalation) > 0


async def _begin_shifts(escalation: Escalation) -> bool:
    return await begin_shifts(escalation) > 0


async def _route_reports_of(
    routing: Slices[AnyReport, Left[AnyReport] | None], events: Sequence[Event]
) -> Left[Event] | None:
    """Route the reports among the events of the intake's streams. Others are not for us."""
    done = await routing.do([e for e in events if isinstance(e, AnyReport)])
    left = [each for each in done if each is not None]
    return Left([event for each in left for event in each.events], left[0].why) if left else None


def _report_consumer(
    settings: Settings, escalation: Escalation, handle: Callable[[Sequence[Event]], Awaitable[Left[Event] | None]]
) -> Consumer[Event]:
    assert settings.redis_url is not None
    return Consumer(
        settings.redis_url,
        list(messaging.streams(INTAKE, settings.partitions)),
        NAME,
        settings.consumer,
        parse,
        handle,
        escalation.database,
        tables.dead_letter,
        messaging.seals(settings.keys_dir),
        max_records=REPORTS_AT_ONCE,
        claim_idle=settings.claim_idle_seconds,
        dead_after=settings.dead_letter_after,
    )
