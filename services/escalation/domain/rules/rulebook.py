"""The rulebook (quy định): one version of the rule as a typed model, with the sentence that it comes from.

Pure: text in, model out. Its JSON Schema is published as docs/schemas/rulebook.json.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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
"""Years that a rule may have. A number in the place of a time would be read as seconds since 1970."""


class RulebookError(Exception):
    """A rulebook cannot be used. The text names the place and what is expected."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Citation(Strict):
    source: str
    vi: str
    en: str


class Post(Strict):
    """A post (chức vụ) that the rule names."""

    key: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    title_vi: str
    title_en: str
    citation_vi: str | None = None
    """The words of the rule that name this post."""


class SeriousLimb(Strict):
    """The limb of the rule for what is "nghiêm trọng, nổi cộm".

    An incident is serious (nghiêm trọng) by its severity. It is prominent (nổi cộm) if a person designated it so, on
    the record.
    """

    requires: Literal["either", "both"]
    minimum_severity: Annotated[int, Field(ge=1, le=4)]


class SeverityLevel(Strict):
    """A level of severity. An incident reaches it when one measure reaches the figure given here."""

    level: Annotated[int, Field(ge=2, le=4)]
    deaths: Figure
    injury_percent: Figure
    life_threatening: Figure
    property_vnd: Figure


class CategoryRule(Strict):
    """How the rule treats one category."""

    firecracker: Answer
    serious: Literal["severity", "designated_only"]
    unknown_harm: Literal["review", "no"]


YOUNGER_CATEGORY = CategoryRule(firecracker="no", serious="severity", unknown_harm="review")
"""The rule for a category that came into the taxonomy after the rulebook."""


class Correlation(Strict):
    window_minutes: Minutes
    radius_m: Figure


class Deadlines(Strict):
    """How many minutes post-holders have to acknowledge, by severity, and the desk to review."""

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
    """The escalation chain (nâng cấp): who is asked next while nobody acts, and how long each level has.

    The defaults hold for a rulebook that was adopted before these fields existed.
    """

    levels: tuple[ChainLevel, ...] = ("desk", "leadership")
    level_minutes: dict[Level, Minutes] = {4: 5, 3: 10, 2: 15, 1: 30}
    remind_percent: Annotated[int, Field(ge=1, le=99)] = 60
    """The reminder is sent after this percentage of the time to acknowledge."""
    lapse_minutes: dict[Level, Minutes] = {4: 60, 3: 120, 2: 360, 1: 1440}
    """If the incident is still open so long after the post-holders were asked, they are asked again. It should be
    longer than the whole chain."""
    idle_minutes: Minutes = 4320
    """An incident to which the rule does not apply is closed so long after its last report."""

    @field_validator("levels")
    @classmethod
    def _from_the_desk_up(cls, levels: tuple[ChainLevel, ...]) -> tuple[ChainLevel, ...]:
        """Require the desk as the first level, since reviews are the desk's, and each level only once."""
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
    """How messages to one contact are bundled.

    `at_once` messages go one by one. After that all that waits goes as one message that lists it.
    """

    at_once: Annotated[int, Field(ge=1)] = 3
    then_every_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30


class Quiet(Strict):
    """A contact's quiet hours hold back only what is known to be below this severity and is not immediate."""

    below_severity: Annotated[int, Field(ge=1, le=5)] = 2


class Patterns(Strict):
    """When "nổi cộm" (prominent) is suggested to the desk, and which incidents count as related."""

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
        """Return the rule for a category. One that the rulebook does not name has YOUNGER_CATEGORY."""
        return self.categories.get(category, YOUNGER_CATEGORY)

    def severity_of(self, harm: Harm) -> int | None:
        """Return the highest level, 1 to 4, that a known figure reaches, or None.

        Where none is reached it is 1 if all figures are known, and None otherwise: unknown is not zero.
        """
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
        """Return the minutes for a severity. Unknown counts as one of the levels, for times only."""
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
    """A rulebook with its text, and the SHA-256 of the bytes that it was read from."""

    model_config = ConfigDict(frozen=True)

    rulebook: Rulebook
    sha256: str
    text: str


def check_complete(rulebook: Rulebook) -> None:
    """Raise RulebookError unless the rulebook names exactly the categories of today's taxonomy."""
    if wrong := sorted(set(rulebook.categories) ^ set(taxonomy())):
        raise RulebookError(f"categories must name each category of the taxonomy once; look at {', '.join(wrong)}")


@lru_cache(maxsize=64)
def read(content: bytes) -> AdoptedRulebook:
    """Read a rulebook file. Raises RulebookError that names the first thing that is wrong. Results are cached."""
    try:
        rulebook = Rulebook.model_validate(yaml.safe_load(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "rulebook"
        raise RulebookError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    except RecursionError as error:
        raise RulebookError("not YAML: is nested too deeply, or in itself") from error
    except (yaml.YAMLError, ValueError) as error:  # an impossible date is a ValueError
        raise RulebookError(f"not YAML: {' '.join(str(error).split())}") from error
    return AdoptedRulebook(rulebook=rulebook, sha256=hashlib.sha256(content).hexdigest(), text=content.decode())


def in_force(adopted: Sequence[AdoptedRulebook], at: datetime) -> AdoptedRulebook | None:
    """Return the version in force at `at`, or None. Where two overlap, the greater by `newness` counts."""
    instant = at.astimezone(UTC)  # which the comparisons of every report need not do again
    found = [a for a in adopted if a.rulebook.is_in_force(instant)]
    return max(found, key=newness) if len(found) > 1 else next(iter(found), None)


def newness(adopted: AdoptedRulebook) -> tuple[datetime, list[str | int], str]:
    """Sort key: the version that begins later is greater, then the one with the later name.

    Numbers in a name compare as numbers, so `.10` is later than `.9`.
    """
    version = adopted.rulebook.version
    return (adopted.rulebook.valid_from, _natural(version), version)


@lru_cache(maxsize=256)
def _natural(version: str) -> list[str | int]:
    parts = re.split(r"(\d+)", version)  # text and numbers alternate, text first
    return [int(part) if n % 2 else part for n, part in enumerate(parts)]
