"""The 13 categories of incident: harm to life, health, property and public safety, and nothing else.

Which limb of the rule a category can meet is the rulebook's business, not the taxonomy's.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Category:
    code: str
    family: str
    """Reports of one family can be about one incident."""
    label_vi: str
    label_en: str
    needs_harm: bool
    """The two catch-all categories are taken only with a structured harm field."""
    emergency_number: str
    legal_anchor: str


@cache
def categories() -> dict[str, Category]:
    with (Path(__file__).parent / "taxonomy.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["code"]: Category(
                code=row["code"],
                family=row["family"],
                label_vi=row["label_vi"],
                label_en=row["label_en"],
                needs_harm=row["needs_harm"] == "yes",
                emergency_number=row["emergency_number"],
                legal_anchor=row["legal_anchor"],
            )
            for row in csv.DictReader(file)
        }
