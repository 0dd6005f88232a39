"""The kinds of unit (loại đơn vị hành chính cấp xã): what a unit of the directory may be."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class UnitKind:
    name: str
    label_en: str
    short: str
    """As people abbreviate it before a name: "P" for "P. Đông Thọ"."""


@cache
def unit_kinds() -> dict[str, UnitKind]:
    """Return the kinds by name."""
    with (Path(__file__).parent / "unit_kinds.csv").open(encoding="utf-8", newline="") as file:
        return {row["kind"]: UnitKind(row["kind"], row["label_en"], row["short"]) for row in csv.DictReader(file)}
