"""The rulebook (quy định): one version of the rule as a typed model, with the sentence it comes from.

Pure: text in, model out. Its JSON Schema is published as docs/schemas/rulebook.json.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.events import Harm
from shared.taxonomy import categories as taxonomy

Answer = Literal["yes", "review", "no"]


class RulebookError(Exception):
    """A rulebook file that cannot be used; the text names the place and what is expected."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Citation(Strict):
    source: str
    vi: str
    en: str


class Post(Strict):
    key: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    title_vi: str
    title_en: str


class SeriousLimb(Strict):
    """ "nghiêm trọng, nổi cộm": serious by severity, prominent by a person's recorded designation."""

    requires: Literal["either", "both"]
    minimum_severity: Annotated[int, Field(ge=1, le=4)]


class SeverityLevel(Strict):
    """The smallest figure of each measure that reaches `level`."""

    level: Annotated[int, Field(ge=2, le=4)]
    deaths: int
    injury_percent: int
    life_threatening: int
    property_vnd: int


class CategoryRule(Strict):
    firecracker: Answer
    serious: Literal["severity", "designated_only"]
    unknown_harm: Literal["review", "no"]


YOUNGER_CATEGORY = CategoryRule(firecracker="no", serious="severity", unknown_harm="review")


class Correlation(Strict):
    window_minutes: Annotated[int, Field(ge=1)]
    radius_m: Annotated[int, Field(ge=1)]


class Deadlines(Strict):
    acknowledge_minutes: dict[Literal[1, 2, 3, 4], Annotated[int, Field(ge=1)]]
    unknown_counts_as: Literal[1, 2, 3, 4]
    review_minutes: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _each_level(self) -> Self:
        missing = {1, 2, 3, 4} - set(self.acknowledge_minutes)
        if missing:
            raise ValueError(f"acknowledge_minutes lacks severity {sorted(missing)}: give minutes for 1 to 4")
        return self


class Rulebook(Strict):
    """One version of the rule, in force for occurrences in [valid_from, valid_to)."""

    version: Annotated[str, Field(pattern=r"^[\w.-]{1,40}$")]
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    citation: Citation
    posts: Annotated[tuple[Post, ...], Field(min_length=1)]
    serious_limb: SeriousLimb
    severity: Annotated[tuple[SeverityLevel, ...], Field(min_length=1)]
    categories: dict[str, CategoryRule]
    correlation: Correlation
    deadlines: Deadlines

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be later than valid_from")
        if len({p.key for p in self.posts}) != len(self.posts):
            raise ValueError("posts repeat a key; each post is named once")
        return self

    def of(self, category: str) -> CategoryRule:
        """A category that is younger than this rulebook counts by severity, and is looked at while that is unknown."""
        return self.categories.get(category, YOUNGER_CATEGORY)

    def severity_of(self, harm: Harm) -> int | None:
        """Level 1 to 4, or None while what is unknown could raise it: unknown is not zero."""
        reached = [s.level for s in self.severity if _reaches(harm, s)]
        if reached:
            return max(reached)
        injury_known = harm.injury_percent is not None or harm.life_threatening is not None or harm.injured == 0
        return 1 if harm.deaths is not None and injury_known and harm.property_vnd is not None else None

    def acknowledge_minutes(self, severity: int | None) -> int:
        level = severity or self.deadlines.unknown_counts_as
        return next(minutes for known, minutes in self.deadlines.acknowledge_minutes.items() if known == level)

    def is_in_force(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


def _reaches(harm: Harm, level: SeverityLevel) -> bool:
    pairs = (
        (harm.deaths, level.deaths),
        (harm.injury_percent, level.injury_percent),
        (harm.life_threatening, level.life_threatening),
        (harm.property_vnd, level.property_vnd),
    )
    return any(figure is not None and figure >= least for figure, least in pairs)


class AdoptedRulebook(BaseModel):
    """A rulebook with the SHA-256 of the bytes that it was read from."""

    model_config = ConfigDict(frozen=True)

    rulebook: Rulebook
    sha256: str
    text: str


def check_complete(rulebook: Rulebook) -> None:
    """A rulebook to be adopted names each category of today's taxonomy. Raises RulebookError."""
    if wrong := sorted(set(rulebook.categories) ^ set(taxonomy())):
        raise RulebookError(f"categories must name each category of the taxonomy once; look at {', '.join(wrong)}")


@lru_cache(maxsize=64)
def read(content: bytes) -> AdoptedRulebook:
    """Raises RulebookError naming the first thing that is wrong."""
    try:
        rulebook = Rulebook.model_validate(yaml.safe_load(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "rulebook"
        raise RulebookError(f"{place}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RulebookError(f"not YAML: {' '.join(str(error).split())}") from error
    return AdoptedRulebook(rulebook=rulebook, sha256=hashlib.sha256(content).hexdigest(), text=content.decode())


def in_force(adopted: Sequence[AdoptedRulebook], at: datetime) -> AdoptedRulebook | None:
    """The version in force at `at`; where two overlap, the one that began later."""
    found = [a for a in adopted if a.rulebook.is_in_force(at)]
    return max(found, key=lambda a: a.rulebook.valid_from, default=None)
