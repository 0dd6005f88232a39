"""The linter of rulebook files: it finds all that is wrong, each with its line, before a file is adopted. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import yaml
from pydantic import ValidationError

from services.escalation.domain.rules.rulebook import AdoptedRulebook, Level, Rulebook, newness, read
from shared.clock import local
from shared.taxonomy import categories as taxonomy

LEVELS: tuple[Level, ...] = (1, 2, 3, 4)
_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Remark:
    """Something about a rulebook file. `place` is the path in the file, such as `categories.FIRE.serious`."""

    line: int
    place: str
    text: str
    is_warning: bool = False

    def __str__(self) -> str:
        return f"{'warning: ' if self.is_warning else ''}{f'{self.place}: ' if self.place else ''}{self.text}"


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`."""

    book: AdoptedRulebook | None
    """None where the file cannot be read as a rulebook."""
    remarks: tuple[Remark, ...]

    @property
    def problems(self) -> list[Remark]:
        """The remarks that prevent adoption."""
        return [r for r in self.remarks if not r.is_warning]

    @property
    def warnings(self) -> list[Remark]:
        """The remarks on what may be intended but deserves a second look."""
        return [r for r in self.remarks if r.is_warning]


def inspect(content: bytes, adopted: Sequence[AdoptedRulebook], now: datetime) -> Inspection:
    """Inspect a rulebook file. `adopted`: the versions that are adopted. Raises nothing for a bad file."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        loaded = yaml.safe_load(content)
        content.decode()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return Inspection(None, (Remark(mark.line + 1 if mark else 1, "", f"not YAML: {error.problem}"),))
    except RecursionError:
        return Inspection(None, (Remark(1, "", "not YAML: is nested too deeply, or in itself"),))
    except (yaml.YAMLError, ValueError) as error:
        return Inspection(None, (Remark(1, "", f"not YAML in UTF-8: {' '.join(str(error).split())}"),))
    lines = _Lines(root)
    remarks = list(_repeated(root, set()))
    try:
        rulebook = Rulebook.model_validate(loaded)
    except ValidationError as error:
        remarks += [_invalid(details, lines) for details in error.errors()]
        return Inspection(None, _in_order(remarks))
    book = read(content)
    remarks += _incomplete(rulebook, lines)
    remarks += _beside_adopted(book, adopted, now, lines)
    for look in (_times, _severity_levels, _chain):
        remarks += look(rulebook, lines)
    return Inspection(book, _in_order(remarks))


def _in_order(remarks: Sequence[Remark]) -> tuple[Remark, ...]:
    return tuple(sorted(remarks, key=lambda r: r.line))


class _Lines:
    """Finds the line of a place in the loaded document."""

    def __init__(self, root: yaml.Node | None) -> None:
        self._root = root

    def of(self, *path: str | int) -> int:
        """Return the line of `path`, or of the longest part of it that exists."""
        node, line = self._root, 1
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _repeated(node: yaml.Node | None, seen: set[int], place: str = "") -> Iterator[Remark]:
    """Yield the keys that a mapping has twice, of which YAML would silently take the last.

    An alias is the same node again, perhaps inside itself. `seen` holds the ids of visited nodes.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            inner = f"{place}.{name}" if place else name
            if name in first:
                yield Remark(line, inner, f"is there already in line {first[name]}: keep one")
            first.setdefault(name, line)
            yield from _repeated(value, seen, inner)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _repeated(value, seen, f"{place}.{number}")


def _invalid(details: Any, lines: _Lines) -> Remark:
    path = tuple(part for part in details["loc"] if part != "[key]")
    text = str(details["msg"]).removeprefix("Value error, ")
    if isinstance(details["input"], bool) and details["type"] == "literal_error":
        text += '; write it in quotes, for YAML takes a bare yes or no for true or false'  # fmt: skip
    return Remark(lines.of(*path), ".".join(str(part) for part in path), text)


def _incomplete(rulebook: Rulebook, lines: _Lines) -> Iterator[Remark]:
    for code in sorted(set(taxonomy()) - set(rulebook.categories)):
        text = f"{code} ({taxonomy()[code].label_en}) is missing: give a rule for each category of the taxonomy"
        yield Remark(lines.of("categories"), "categories", text)
    for code in sorted(set(rulebook.categories) - set(taxonomy())):
        yield Remark(lines.of("categories", code), f"categories.{code}", "is not in the taxonomy: leave it out")


def _beside_adopted(
    book: AdoptedRulebook, adopted: Sequence[AdoptedRulebook], now: datetime, lines: _Lines
) -> Iterator[Remark]:
    """Compare a rulebook with the adopted ones: the same version, an overlap, a gap, or a start in the past."""
    rulebook = book.rulebook
    same = next((a for a in adopted if a.rulebook.version == rulebook.version), None)
    if same is not None and same.sha256 != book.sha256:
        text = (
            f"{rulebook.version} was adopted with another content, and an adopted version never changes: name a new one"
        )
        yield Remark(lines.of("version"), "version", text)
    others = [a for a in adopted if a.rulebook.version != rulebook.version]
    line = lines.of("valid_from")
    for other in sorted(others, key=newness):
        begin = max(rulebook.valid_from, other.rulebook.valid_from)
        end = min(rulebook.valid_to or _FOREVER, other.rulebook.valid_to or _FOREVER)
        if begin < end:
            counts = max(book, other, key=newness).rulebook.version
            text = f"in force beside {other.rulebook.version} {_period(begin, end)}: there {counts} counts"
            yield Remark(line, "valid_from", text, is_warning=True)
    before = [a.rulebook.valid_to for a in others if a.rulebook.valid_from < rulebook.valid_from]
    ended = [until for until in before if until is not None]
    if before and len(ended) == len(before) and max(ended) < rulebook.valid_from:
        text = f"nothing is in force {_period(max(ended), rulebook.valid_from)}: what occurs then is undetermined"
        yield Remark(line, "valid_from", text, is_warning=True)
    if same is None and rulebook.valid_from < now:
        text = "is past: incidents that were decided keep their version, what is reported late is decided by this one"
        yield Remark(line, "valid_from", text, is_warning=True)


def _period(begin: datetime, end: datetime) -> str:
    until = "" if end == _FOREVER else f" to {local(end):%Y-%m-%d %H:%M}"
    return f"from {local(begin):%Y-%m-%d %H:%M}{until}"


def _times(rulebook: Rulebook, lines: _Lines) -> Iterator[Remark]:
    """Warn where a graver incident has more time."""
    of: tuple[tuple[tuple[str, str], Callable[[int | None], int]], ...] = (
        (("deadlines", "acknowledge_minutes"), rulebook.acknowledge_minutes),
        (("chain", "level_minutes"), rulebook.level_minutes),
        (("chain", "lapse_minutes"), rulebook.lapse_minutes),
    )
    for path, minutes in of:
        for level in LEVELS[1:]:
            if minutes(level) > minutes(level - 1):
                text = f"severity {level} has {minutes(level)} minutes, more than severity {level - 1}"
                yield Remark(lines.of(*path), ".".join(path), text, is_warning=True)


def _severity_levels(rulebook: Rulebook, lines: _Lines) -> Iterator[Remark]:
    """Warn of severity levels that are missing, or whose figures do not rise."""
    line = lines.of("severity")
    for missing in sorted({2, 3, 4} - {step.level for step in rulebook.severity}):
        yield Remark(line, "severity", f"has no level {missing}: no incident will reach it", is_warning=True)
    steps = sorted(rulebook.severity, key=lambda step: step.level)
    for lower, higher in pairwise(steps):
        for measure in ("deaths", "injury_percent", "life_threatening", "property_vnd"):
            if getattr(lower, measure) >= getattr(higher, measure):
                text = f"{measure} of level {higher.level} is not above that of level {lower.level}"
                yield Remark(line, "severity", text, is_warning=True)


def _chain(rulebook: Rulebook, lines: _Lines) -> Iterator[Remark]:
    """Warn where acknowledgements lapse before the chain has ended.

    The new round would ask the post-holders while a level above them is still being asked.
    """
    for level in LEVELS:
        steps = len(rulebook.chain.levels)
        whole = rulebook.acknowledge_minutes(level) + steps * rulebook.level_minutes(level)
        lapse = rulebook.lapse_minutes(level)
        if whole > lapse:
            text = f"severity {level}: the chain takes {whole} minutes, and the acknowledgement lapses after {lapse}"
            yield Remark(lines.of("chain", "lapse_minutes"), "chain.lapse_minutes", text, is_warning=True)
