"""The 13 categories of incident (loại vụ việc): harm to life, health, property and public safety, and nothing else.

Which limb of the rule a category can meet is in the rulebook, not here.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Category:
    code: str
    family: str
    """Only reports of one family can belong to the same incident."""
    label_vi: str
    label_en: str
    needs_harm: bool
    """A report of this category must have structured figures of harm. This holds for the two catch-all categories."""
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
