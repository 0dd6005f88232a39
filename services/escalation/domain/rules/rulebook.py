"""The rulebook (quy định): one version of the rule as a typed model, with the sentence it comes from.

Pure: text in, model out. Its JSON Schema is published as docs/schemas/rulebook.json.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.events import Harm
from shared.taxonomy import categories as taxonomy

Answer = Literal["yes", "review", "no"]
Figure = Annotated[int, Field(ge=1, strict=True)]
Minutes = Annotated[int, Field(ge=1, le=366 * 24 * 60, strict=True)]
YEARS = range(2000, 3000)
"""Of the rule; a number in the place of a day would be taken for seconds since 1970."""


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
    citation_vi: str | None = None
    """The words of the rule that name this post."""


class SeriousLimb(Strict):
    """ "nghiêm trọng, nổi cộm": serious by severity, prominent by a person's recorded designation."""

    requires: Literal["either", "both"]
    minimum_severity: Annotated[int, Field(ge=1, le=4)]


class SeverityLevel(Strict):
    """The smallest figure of each measure that reaches `level`."""

    level: Annotated[int, Field(ge=2, le=4)]
    deaths: Figure
    injury_percent: Figure
    life_threatening: Figure
    property_vnd: Figure


class CategoryRule(Strict):
    firecracker: Answer
    serious: Literal["severity", "designated_only"]
    unknown_harm: Literal["review", "no"]


YOUNGER_CATEGORY = CategoryRule(firecracker="no", serious="severity", unknown_harm="review")


class Correlation(Strict):
    window_minutes: Minutes
    radius_m: Figure


class Deadlines(Strict):
    acknowledge_minutes: dict[Literal[1, 2, 3, 4], Minutes]
    unknown_counts_as: Literal[1, 2, 3, 4]
    review_minutes: Minutes

    @model_validator(mode="after")
    def _each_level(self) -> Self:
        missing = {1, 2, 3, 4} - set(self.acknowledge_minutes)
        if missing:
            raise ValueError(f"acknowledge_minutes lacks severity {sorted(missing)}: give minutes for 1 to 4")
        return self


Level = Literal[1, 2, 3, 4]
ChainLevel = Literal["desk", "leadership"]


class Chain(Strict):
    """Who is asked next while nobody answers (nâng cấp), and how long each has.

    The defaults are what holds for a rulebook that was adopted before it could say so.
    """

    levels: tuple[ChainLevel, ...] = ("desk", "leadership")
    level_minutes: dict[Level, Minutes] = {4: 5, 3: 10, 2: 15, 1: 30}
    remind_percent: Annotated[int, Field(ge=1, le=99)] = 60
    """Of the time to acknowledge, until the reminder."""
    lapse_minutes: dict[Level, Minutes] = {4: 60, 3: 120, 2: 360, 1: 1440}
    """Still open so long after the post-holders were told: they are asked again. Longer than the whole chain."""
    idle_minutes: Minutes = 4320
    """What the rule does not apply to closes after so long without anything new."""

    @field_validator("levels")
    @classmethod
    def _from_the_desk_up(cls, levels: tuple[ChainLevel, ...]) -> tuple[ChainLevel, ...]:
        """The review is the desk's, so what becomes of it is counted from there."""
        if levels[:1] != ("desk",):
            raise ValueError(f"{f'begins with {levels[0]}' if levels else 'names nobody'}: begin with desk")
        for level in levels:
            if levels.count(level) > 1:
                raise ValueError(f"names {level} twice: each level is asked once")
        return levels

    @model_validator(mode="after")
    def _each_level(self) -> Self:
        for name in ("level_minutes", "lapse_minutes"):
            if missing := {1, 2, 3, 4} - set(getattr(self, name)):
                raise ValueError(f"{name} lacks severity {sorted(missing)}: give minutes for 1 to 4")
        return self


class Bundling(Strict):
    """So many messages to one contact at once; then what waits goes as one message that lists it."""

    at_once: Annotated[int, Field(ge=1)] = 3
    then_every_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30


class Quiet(Strict):
    """A contact's quiet hours hold back only what is known to be below this severity and not immediate."""

    below_severity: Annotated[int, Field(ge=1, le=5)] = 2


class Patterns(Strict):
    """When to suggest "nổi cộm" to the desk, and what counts as related."""

    independent_reports: Annotated[int, Field(ge=2)] = 5
    ward_incidents: Annotated[int, Field(ge=2)] = 3
    ward_window_minutes: Minutes = 60
    related_window_minutes: Minutes = 60


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
    chain: Chain = Chain()
    bundling: Bundling = Bundling()
    quiet: Quiet = Quiet()
    patterns: Patterns = Patterns()

    @field_validator("valid_from", "valid_to")
    @classmethod
    def _of_our_time(cls, at: datetime | None) -> datetime | None:
        if at is not None and at.year not in YEARS:
            raise ValueError(f"the year is {at.year}: write a time like 2023-01-06T00:00:00+07:00, null for no end")
        return at

    @field_validator("severity")
    @classmethod
    def _each_once(cls, steps: tuple[SeverityLevel, ...]) -> tuple[SeverityLevel, ...]:
        given = [step.level for step in steps]
        for level in given:
            if given.count(level) > 1:
                raise ValueError(f"gives level {level} twice: give each level once")
        return steps

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
        return self._minutes(self.deadlines.acknowledge_minutes, severity)

    def level_minutes(self, severity: int | None) -> int:
        return self._minutes(self.chain.level_minutes, severity)

    def lapse_minutes(self, severity: int | None) -> int:
        return self._minutes(self.chain.lapse_minutes, severity)

    def _minutes(self, by_severity: Mapping[Level, int], severity: int | None) -> int:
        """Unknown severity counts as one of the levels, for times only."""
        level = severity or self.deadlines.unknown_counts_as
        return next(minutes for known, minutes in by_severity.items() if known == level)

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
        raise RulebookError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    except RecursionError as error:
        raise RulebookError("not YAML: is nested too deeply, or in itself") from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        raise RulebookError(f"not YAML: {' '.join(str(error).split())}") from error
    return AdoptedRulebook(rulebook=rulebook, sha256=hashlib.sha256(content).hexdigest(), text=content.decode())


def in_force(adopted: Sequence[AdoptedRulebook], at: datetime) -> AdoptedRulebook | None:
    """The version in force at `at`; where two overlap, the one that began later, then the later name."""
    found = [a for a in adopted if a.rulebook.is_in_force(at)]
    return max(found, key=newness, default=None)


def newness(adopted: AdoptedRulebook) -> tuple[datetime, list[str | int], str]:
    """Numbers in a version count as numbers: `.10` is later than `.9`."""
    version = adopted.rulebook.version
    parts = re.split(r"(\d+)", version)  # words and numbers by turns, a word first
    natural = [int(part) if n % 2 else part for n, part in enumerate(parts)]
    return (adopted.rulebook.valid_from, natural, version)
