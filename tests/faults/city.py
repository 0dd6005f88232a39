"""A small city for the fault runs: four wards with the awkward cases among their post-holders, and what they report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

from shared.http.identity import Principal
from tests.faults.receiver import Receiver
from tests.support import rulebook

VALID_FROM = "2021-02-01"
WARDS = """\
code,valid_from,name,type
90001,2021-02-01,Mẫu Một,phường
90002,2021-02-01,Mẫu Hai,phường
90003,2021-02-01,Mẫu Ba,xã
90004,2021-02-01,Mẫu Bốn,xã
"""

_DIRECTORY = """\
unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document,channel,sample
90001,2021-02-01,party_secretary,mau-1-bt,Bí thư (mẫu),2021-02-01,QĐ mẫu,outbox://mau-1-bt,true
90001,2021-02-01,chair,mau-1-ct,Chủ tịch (mẫu),2021-02-01,QĐ mẫu,{mau-1-ct},true
90002,2021-02-01,party_secretary,mau-2,Bí thư kiêm Chủ tịch (mẫu),2021-02-01,QĐ mẫu,{mau-2},true
90002,2021-02-01,chair,mau-2,Bí thư kiêm Chủ tịch (mẫu),2021-02-01,QĐ mẫu,{mau-2},true
90003,2021-02-01,chair,mau-3-ct,Chủ tịch (mẫu),2021-02-01,QĐ mẫu,outbox://mau-3-ct,true
90004,2021-02-01,party_secretary,mau-4-bt,Bí thư (mẫu),2021-02-01,QĐ mẫu,,true
90004,2021-02-01,chair,mau-4-ct,Chủ tịch (mẫu),2021-02-01,QĐ mẫu,outbox://mau-4-ct,true
"""
"""90002: one person in both posts; 90003: no party secretary; 90004: a secretary whom no channel reaches."""
_BY_WEBHOOK = ("mau-1-ct", "mau-2")


def directory(receiver: Receiver) -> str:
    """The post-holders; some are told by webhook."""
    rows = _DIRECTORY
    for holder in _BY_WEBHOOK:
        rows = rows.replace(f"{{{holder}}}", receiver.channel(holder))
    return rows


RULEBOOK = rulebook(
    ('version: "2023-01-06.1"', 'version: "chay-thu"'),
    ("valid_from: 2023-01-06T", "valid_from: 2023-01-07T"),
    ("{4: 5, 3: 10, 2: 15, 1: 30}", "{4: 2, 3: 2, 2: 2, 1: 2}"),
    ("review_minutes: 30", "review_minutes: 2"),
    ("remind_percent: 60", "remind_percent: 5"),
    ("{4: 60, 3: 120, 2: 360, 1: 1440}", "{4: 7, 3: 7, 2: 7, 1: 7}"),
    ("idle_minutes: 4320", "idle_minutes: 8"),
    ("then_every_seconds: 30", "then_every_seconds: 1"),
)
"""The city's rule with times so short that they pass in a run: reminded after 6 seconds, overdue after two minutes."""

DESK = Principal("truc-ban", "desk")
LEADER = Principal("lanh-dao", "leader")
ADMINISTRATOR = Principal("quan-tri", "admin")
OFFICIALS = (
    Principal("mau-1-bt", "official", "90001", "party_secretary"),
    Principal("mau-1-ct", "official", "90001", "chair"),
    Principal("mau-1-pct", "official", "90001", "chair"),
    Principal("mau-2", "official", "90002", "chair"),
    Principal("mau-3-bt", "official", "90003", "party_secretary"),
    Principal("mau-3-ct", "official", "90003", "chair"),
    Principal("mau-4-ct", "official", "90004", "chair"),
)
"""A deputy of 90001 and a secretary of 90003 come and go while the city runs."""
_SENDERS = (Principal("cam-bien-1", "device"), Principal("cam-bien-2", "device"), DESK)
_NAMES = {"90001": "Mẫu Một", "90002": "P. Mau Hai", "90003": "90003", "90004": "Xã Mẫu Bốn"}


@dataclass(frozen=True)
class Submitted:
    """A report as it is sent, and sent again: always by the same sender."""

    sender: Principal
    body: dict[str, Any]

    @property
    def report_id(self) -> str:
        return self.body["report_id"]


def reports(random: Random, before: datetime) -> Iterator[Submitted]:
    """Without end: some open an incident, more join one, change its severity or verify it."""
    number = 0
    while True:
        number += 1
        code = random.choice(list(_NAMES))
        sender = random.choice([*_SENDERS, Principal(f"can-bo-{code}", "officer", code)])
        occurred_at = before - timedelta(minutes=random.randrange(10, 600))
        body: dict[str, Any] = {
            "report_id": f"bao-cao-{number:06}",
            "ward": _NAMES[code],
            "occurred_at": occurred_at.isoformat(),
            "description": f"Tin báo số {number}: nghe tiếng nổ ở đầu phố",
        }
        body |= random.choice((_set_off, _fire, _possession))(random)
        if random.random() < 0.3:
            body["reporter"] = {"name": f"Người báo {number}", "phone": f"09{random.randrange(10**8):08}"}
        if random.random() < 0.5:
            place = {"latitude": 19.8 + random.random() / 100, "longitude": 105.7 + random.random() / 100}
            body["location"] = place
        if random.random() < 0.05:
            body["exercise"] = True
        yield Submitted(sender, body)


def _set_off(random: Random) -> dict[str, Any]:
    return {"category": "FIRECRACKER_SET_OFF", "firecracker": {"explosion_sound": random.random() < 0.8}}


def _fire(random: Random) -> dict[str, Any]:
    harm = {"deaths": random.choice((0, 0, 1, 3)), "property_vnd": random.choice((10**7, 10**8, 10**9))}
    return {"category": "FIRE", "harm": harm} if random.random() < 0.7 else {"category": "FIRE"}


def _possession(_: Random) -> dict[str, Any]:
    return {"category": "FIRECRACKER_POSSESSION"}


def changes_of_hands(today: date) -> Iterator[Sequence[dict[str, Any]]]:
    """Rows of the directory, without end: who comes is recorded, and withdrawn again."""
    comers = (
        ("90001", "chair", "mau-1-pct", {"capacity": "deputy", "reason": "Đi công tác"}),
        ("90003", "party_secretary", "mau-3-bt", {}),
    )
    while True:
        for withdrawn in (False, True):
            for unit, post, holder, more in comers:
                row = {
                    "unit_code": unit,
                    "unit_valid_from": VALID_FROM,
                    "post": post,
                    "holder_id": holder,
                    "holder_name": f"{holder} (mẫu)",
                    "valid_from": (today - timedelta(days=1)).isoformat(),
                    "valid_to": (today + timedelta(days=30)).isoformat(),
                    "document": "QĐ mẫu",
                    "channel": None if withdrawn else f"outbox://{holder}",
                    "sample": True,
                    "withdrawn": withdrawn,
                }
                yield [row | more]
