"""Wards, submissions and contexts for intake's tests."""

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

from services.intake.domain.draft import Draft, DraftContext, draft_report
from services.intake.domain.submission import Submission
from services.intake.domain.wards import Unit
from shared.http.identity import Principal

AT = datetime(2023, 1, 21, 16, 58, tzinfo=UTC)
"""Two minutes to midnight in Thanh Hóa, the night before Tết."""
DESK = Principal("truc-ban", "desk")
OFFICER = Principal("cb-07", "officer", ward="14776")


def _units() -> list[Unit]:
    path = Path(__file__).parents[3] / "samples" / "wards.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Unit(row["code"], date.fromisoformat(row["valid_from"]), None, row["name"], row["type"])
            for row in csv.DictReader(file)
        ]


UNITS = _units()


def body(**changes: Any) -> dict[str, Any]:
    """What a sender sends; a field that is changed to None is left out."""
    full: dict[str, Any] = {
        "report_id": "cb-07-0001",
        "category": "FIRECRACKER_SET_OFF",
        "ward": "P. Ba Đình",
        "neighbourhood": "Phố Tống Duy Tân",
        "location": {"latitude": 19.807, "longitude": 105.776, "accuracy_m": 12},
        "occurred_at": "2023-01-21T23:55:00+07:00",
        "captured_at": "2023-01-21T23:56:00+07:00",
        "description": "Nghe tiếng pháo nổ liên tiếp ở đầu phố",
        "harm": {"deaths": 0, "injured": 1},
        "firecracker": {"explosion_sound": True, "licensed": False},
        "evidence": [{"sha256": "ab" * 32, "bytes": 1000, "media_type": "image/jpeg"}],
        "reporter": {"name": "Người báo tin (mẫu)", "phone": "0912 345 678"},
        "exercise": False,
    } | changes
    return {name: value for name, value in full.items() if value is not None}


def submission(**changes: Any) -> Submission:
    return Submission.model_validate(body(**changes))


def context(received_at: datetime = AT, key: bytes = bytes(32)) -> DraftContext:
    """Ids, salts and receipts by number: equal calls give equal drafts."""
    numbers = count(1)
    return DraftContext(
        received_at=received_at,
        new_id=lambda: f"event-{next(numbers)}",
        new_salt=_salts(),
        new_receipt=lambda: "TB-0000-0000-0000-0001",
        content_key=key,
        pseudonym_key=bytes(32),
    )


def _salts() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):064x}"


def drafted(caller: Principal = DESK, our_time: datetime = AT, **changes: Any) -> Draft:
    return draft_report(submission(**changes), caller, UNITS, context(our_time))
