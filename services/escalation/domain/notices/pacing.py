"""How fast messages go to one contact and through one gateway, and which notices share a message. Pure.

A rate is kept by the generic cell rate algorithm (GCRA, ITU-T I.371): for each key one instant is stored, up to which
its traffic is accounted for. The first attempt of a message is charged to its contact and to its gateway. A retry is
charged to the gateway only, and carries what it carried before.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from services.escalation.domain.directory.channel_form import scheme

UNKNOWN_SEVERITY = 2
"""The level at which an unknown severity ranks among known ones."""
UNPACED = frozenset({"outbox"})
"""Schemes whose gateway has no rate."""
CROWDED = timedelta(seconds=1)
"""How long a delivery to a busy host is put off while others wait to be looked at."""


def host_of(channel: str) -> str:
    """Return the scheme and server of a channel. Messages under way are limited for each of these."""
    try:
        return f"{scheme(channel)}://{urlsplit(channel).hostname or ''}"
    except ValueError:
        return scheme(channel)


def contact_key(channel: str) -> str:
    """Return the key of the contact's rate. It does not reveal the address."""
    return hashlib.sha256(channel.encode()).hexdigest()


def gateway_key(channel: str) -> str | None:
    """Return the key of the rate of the channel's server. None for a local file, which has no rate."""
    if scheme(channel) in UNPACED:
        return None
    return f"{scheme(channel)}:{hashlib.sha256(host_of(channel).encode()).hexdigest()}"


@dataclass(frozen=True)
class Rate:
    """A rate: `burst` messages at once, then one in each `every`."""

    burst: int
    every: timedelta

    def free(self, allowed_at: datetime, now: datetime) -> int:
        """Return how many messages may go now."""
        ahead = self._sane(allowed_at, now) - now
        return self.burst + (-ahead // self.every)

    def next(self, allowed_at: datetime, now: datetime) -> datetime:
        """Return when the next message may go."""
        return max(self._sane(allowed_at, now) - (self.burst - 1) * self.every, now)

    def charged(self, allowed_at: datetime, now: datetime) -> datetime:
        """Return the new `allowed_at` after one more message."""
        return self._sane(allowed_at, now) + self.every

    def most(self, now: datetime) -> datetime:
        """Return how far ahead traffic can cause `allowed_at` to lie. It lies further if the clock was set back."""
        return now + self.burst * self.every

    def _sane(self, allowed_at: datetime, now: datetime) -> datetime:
        return min(max(allowed_at, now), self.most(now))


@dataclass(frozen=True)
class Waiting:
    """A delivery that is due."""

    delivery_id: str
    host: str
    contact: str | None
    """Key of the contact's rate. None for an exercise and for what is about no incident: they have no such rate and a
    message of their own, and so take no turn from a notice."""
    gateway: str | None
    message: str | None = None
    """Id of the message in which it was tried before. None before the first attempt."""
    severity: int | None = None

    @property
    def rank(self) -> int:
        return -(self.severity or UNKNOWN_SEVERITY)


@dataclass
class Shares:
    """Which messages go now, and which deliveries are postponed until when (by delivery id).

    A delivery in neither stays due.
    """

    messages: list[tuple[Waiting, ...]] = field(default_factory=list[tuple[Waiting, ...]])
    postponed: dict[str, datetime] = field(default_factory=dict[str, datetime])
    charged: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """The new `allowed_at` of each key that changes."""


@dataclass(frozen=True)
class Limits:
    contact: Rate
    gateway: Rate
    messages: int
    """How many messages one claim takes at most."""
    per_host: int
    """How many messages may be under way to one host."""


class _Busy(Exception):
    """A message cannot go now. `at`: when it can. None: it stays due."""

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
    """Decide which of the `waiting` deliveries go now, and in which messages.

    `waiting`: the longest due first. `allowed`: the stored instant of each key. `under_way`: number of messages being
    sent, by host. `crowded`: more deliveries are due than `waiting` holds.
    """
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
    """How many later turns of a gateway were given to postponed messages. Nothing is charged for them."""

    def all(self, waiting: Iterable[Waiting]) -> Shares:
        groups: dict[tuple[str | None, ...], list[Waiting]] = {}
        for one in waiting:
            own = one.message or (one.delivery_id if one.contact is None else None)
            groups.setdefault((one.contact, own), []).append(one)
        for (contact, own), group in groups.items():
            rows = tuple(sorted(group, key=lambda w: w.rank))
            if own is not None or contact is None:
                self._start_messages([rows], rows, None)
            else:
                self._first_time(contact, rows)
        return self.shares

    def _first_time(self, contact: str, rows: tuple[Waiting, ...]) -> None:
        """Start deliveries to one contact that were never tried.

        Each goes by itself while the burst lasts. After that, all go in one message at the contact's next turn.
        """
        rate = self.limits.contact
        allowed = self._allowed(contact, rate)
        free = rate.free(allowed, self.now)
        if free == 0:
            self._postpone(rows, rate.next(allowed, self.now))
        elif len(rows) <= free or free == rate.burst:
            self._start_messages([(row,) for row in rows[:free]], rows, contact)
        else:
            self._start_messages([rows], rows, contact)

    def _start_messages(
        self, messages: Sequence[tuple[Waiting, ...]], rows: tuple[Waiting, ...], contact: str | None
    ) -> None:
        """Start as many of `messages` as may go. The rest of `rows` is postponed until they may."""
        gone: set[str] = set()
        try:
            for message in messages:
                self._start_message(message, contact)
                gone.update(row.delivery_id for row in message)
            at = self.limits.contact.next(self.allowed[contact], self.now) if contact else None
        except _Busy as busy:
            at = busy.at
        if at is not None:
            self._postpone([row for row in rows if row.delivery_id not in gone], at)

    def _start_message(self, message: tuple[Waiting, ...], contact: str | None) -> None:
        """Start one message, and charge its rates. Raises _Busy."""
        host, gateway = message[0].host, message[0].gateway
        if len(self.shares.messages) >= self.limits.messages:
            raise _Busy(None)
        if self.under_way.get(host, 0) >= self.limits.per_host:
            raise _Busy(self.now + CROWDED if self.crowded else None)
        if gateway is not None:
            rate = self.limits.gateway
            allowed = self._allowed(gateway, rate)
            if rate.free(allowed, self.now) == 0:
                place = self.promised.get(gateway, 0)
                self.promised[gateway] = place + 1
                raise _Busy(rate.next(allowed, self.now) + place * rate.every)
            self._charge(gateway, rate)
        if contact is not None:
            self._charge(contact, self.limits.contact)
        self.under_way[host] = self.under_way.get(host, 0) + 1
        self.shares.messages.append(message)

    def _allowed(self, key: str, rate: Rate) -> datetime:
        """Return the instant up to which the key's traffic is accounted for.

        One that no traffic can cause was stored before the clock was set back. What it becomes is stored: bounded by
        each `now` anew it would always lie ahead, and nothing would ever be free.
        """
        stored, most = self.allowed.get(key, self.now), rate.most(self.now)
        if stored > most:
            self.allowed[key] = self.shares.charged[key] = most
        return min(stored, most)

    def _charge(self, key: str, rate: Rate) -> None:
        self.allowed[key] = self.shares.charged[key] = rate.charged(self.allowed.get(key, self.now), self.now)

    def _postpone(self, rows: Iterable[Waiting], at: datetime) -> None:
        self.shares.postponed.update((row.delivery_id, at) for row in rows)
