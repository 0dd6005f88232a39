"""The files of the sample. Each row says what is done, when, by whom, and what is expected of it."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[3] / "samples"
PARTS = ("tet-night", "after-tet", "units-2025")
"""Played in this order."""
START = datetime.fromisoformat("2023-01-06T08:00:00+07:00")
"""What the clock says before the first row."""
COUNTED_PURPOSES = ("accountable", "reminder", "still_open", "not_acknowledged", "not_reviewed", "exhausted")
"""The notices that the demo counts: those to post-holders, and those that step up."""


def read_sample() -> list[dict[str, Any]]:
    """All rows, in the order in which they are played."""
    return [row for part in PARTS for row in read_rows(part)]


def read_rows(part: str) -> list[dict[str, Any]]:
    """The rows of one part."""
    text = (SAMPLES / f"{part}.ndjson").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]
