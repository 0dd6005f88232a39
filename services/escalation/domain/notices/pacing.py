"""How fast messages go, to one contact and through one gateway, and which notices share a message. Pure.

A rate is kept by GCRA: one instant for each key, up to which its traffic is accounted for. A message is charged to its
contact once: sent again, it goes by its back-off and the gateway's rate alone, as the message it was before.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

UNKNOWN_SEVERITY = 2
"""Where what is not known stands among the known."""
UNPACED = frozenset({"outbox"})
CROWDED = timedelta(seconds=1)
"""What waits for a gateway that is busy steps aside so long, so that others are seen."""


def scheme(channel: str) -> str:
    """All of a channel that may be shown: the rest is an address or a secret."""
    return channel.partition("://")[0].lower()


def host_of(channel: str) -> str:
    """What stalls together: the scheme with the server that it names."""
    try:
        return f"{scheme(channel)}://{urlsplit(channel).hostname or ''}"
    except ValueError:
        return scheme(channel)


def contact_key(channel: str) -> str:
    """A key that does not show the address."""
    return hashlib.sha256(channel.encode()).hexdigest()


def gateway_key(channel: str) -> str | None:
    """Key of the rate of a channel's server. None for a local file, which takes all."""
    if scheme(channel) in UNPACED:
        return None
    return f"{scheme(channel)}:{hashlib.sha256(host_of(channel).encode()).hexdigest()}"


@dataclass(frozen=True)
class Rate:
    """So many at once, then one every so often."""

    burst: int
    every: timedelta

    def free(self, allowed_at: datetime, now: datetime) -> int:
        """How many may go now."""
        ahead = self._sane(allowed_at, now) - now
        return self.burst + (-ahead // self.every)

    def next(self, allowed_at: datetime, now: datetime) -> datetime:
        """When the next may go."""
        return max(self._sane(allowed_at, now) - (self.burst - 1) * self.every, now)

    def charged(self, allowed_at: datetime, now: datetime) -> datetime:
        """`allowed_at` once one more has gone."""
        return self._sane(allowed_at, now) + self.every

    def _sane(self, allowed_at: datetime, now: datetime) -> datetime:
        """Never more ahead than traffic can bring it, for a clock that was set back."""
        return min(max(allowed_at, now), now + self.burst * self.every)


@dataclass(frozen=True)
class Waiting:
    """A delivery that is due."""

    delivery_id: str
    host: str
    contact: str | None
    """Key of its contact's rate; None: goes without one, as exercises do, in a message of its own."""
    gateway: str | None
    message: str | None = None
    """The message in which it was tried before."""
    severity: int | None = None

    @property
    def rank(self) -> int:
        return -(self.severity or UNKNOWN_SEVERITY)


@dataclass
class Shares:
    """What goes now, message by message, and what waits until when. What is in neither stays due."""

    messages: list[tuple[Waiting, ...]] = field(default_factory=list[tuple[Waiting, ...]])
    postponed: dict[str, datetime] = field(default_factory=dict[str, datetime])
    charged: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """New `allowed_at` by key."""


@dataclass(frozen=True)
class Limits:
    contact: Rate
    gateway: Rate
    messages: int
    """As many are taken at once."""
    per_host: int
    """As many messages may be under way to one host at once."""


class _Busy(Exception):
    """It cannot go now; `at` says when, None that it stays due."""

    def __init__(self, at: datetime | None) -> None:
        super().__init__()
        self.at = at


def share(
    waiting: Sequence[Waiting],
    allowed: Mapping[str, datetime],
    now: datetime,
    limits: Limits,
    under_way: Mapping[str, int],
    *,
    crowded: bool = False,
) -> Shares:
    """`waiting` in order; `under_way` by host; `crowded`: more is due than is to be seen here."""
    return _Sharing(dict(allowed), now, limits, dict(under_way), crowded).all(waiting)


@dataclass
class _Sharing:
    allowed: dict[str, datetime]
    now: datetime
    limits: Limits
    under_way: dict[str, int]
    crowded: bool
    shares: Shares = field(default_factory=Shares)
    promised: dict[str, int] = field(default_factory=dict[str, int])
    """Places after the next that a gateway's rate gave to what waits for it; nothing is charged for them."""

    def all(self, waiting: Iterable[Waiting]) -> Shares:
        groups: dict[tuple[str | None, ...], list[Waiting]] = {}
        for one in waiting:
            own = one.message or (one.delivery_id if one.contact is None else None)
            groups.setdefault((one.contact, own), []).append(one)
        for (contact, own), group in groups.items():
            rows = tuple(sorted(group, key=lambda w: w.rank))
            if own is not None or contact is None:
                self._send([rows], rows, None)
            else:
                self._first_time(contact, rows)
        return self.shares

    def _first_time(self, contact: str, rows: tuple[Waiting, ...]) -> None:
        """One by one while a burst is free; once it was used, all in one message at the contact's next turn."""
        rate, allowed = self.limits.contact, self.allowed.get(contact, self.now)
        free = rate.free(allowed, self.now)
        if free == 0:
            self._postpone(rows, rate.next(allowed, self.now))
        elif len(rows) <= free or free == rate.burst:
            self._send([(row,) for row in rows[:free]], rows, contact)
        else:
            self._send([rows], rows, contact)

    def _send(self, messages: Sequence[tuple[Waiting, ...]], rows: tuple[Waiting, ...], contact: str | None) -> None:
        """As many of these messages as can go; what is left of `rows` waits for what stops it."""
        gone: set[str] = set()
        try:
            for message in messages:
                self._go(message, contact)
                gone.update(row.delivery_id for row in message)
            at = self.limits.contact.next(self.allowed[contact], self.now) if contact else None
        except _Busy as busy:
            at = busy.at
        if at is not None:
            self._postpone([row for row in rows if row.delivery_id not in gone], at)

    def _go(self, message: tuple[Waiting, ...], contact: str | None) -> None:
        """Raises _Busy."""
        host, gateway = message[0].host, message[0].gateway
        if len(self.shares.messages) >= self.limits.messages:
            raise _Busy(None)
        if self.under_way.get(host, 0) >= self.limits.per_host:
            raise _Busy(self.now + CROWDED if self.crowded else None)
        if gateway is not None:
            rate, allowed = self.limits.gateway, self.allowed.get(gateway, self.now)
            if rate.free(allowed, self.now) == 0:
                place = self.promised.get(gateway, 0)
                self.promised[gateway] = place + 1
                raise _Busy(rate.next(allowed, self.now) + place * rate.every)
            self._charge(gateway, rate)
        if contact is not None:
            self._charge(contact, self.limits.contact)
        self.under_way[host] = self.under_way.get(host, 0) + 1
        self.shares.messages.append(message)

    def _charge(self, key: str, rate: Rate) -> None:
        self.allowed[key] = self.shares.charged[key] = rate.charged(self.allowed.get(key, self.now), self.now)

    def _postpone(self, rows: Iterable[Waiting], at: datetime) -> None:
        self.shares.postponed.update((row.delivery_id, at) for row in rows)
