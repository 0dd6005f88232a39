"""The pages on the architecture name files and functions: these exist, so that a page that fell behind is found."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs/architecture/README.md"
PAGES = [ROOT / "ARCHITECTURE.md", *ROOT.glob("CONTRIBUTING.md"), *sorted(INDEX.parent.glob("*.md"))]
_CODE = [path for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py")]
_NAMED = re.compile(
    r"`((?:services|shared|tests|benchmarks|docs|samples|deploy)/[\w./-]+|\w+\.py)`(?:\s+`([A-Za-z_][\w.]*)`)?"
)
"""A path, or the name of a file whose folder the text has named before; and what follows it directly: its function."""


def named(page: Path) -> set[tuple[str, str]]:
    return set(_NAMED.findall(page.read_text(encoding="utf-8")))


def files_of(name: str) -> list[Path]:
    """A folder stands for all code in it, a name without a folder for every file of that name."""
    if "/" not in name:
        return [path for path in _CODE if path.name == name]
    path = ROOT / name
    return [p for p in _CODE if p.is_relative_to(path)] if path.is_dir() else [path]


def defines(path: Path, symbol: str) -> bool:
    name = re.escape(symbol.rpartition(".")[2])
    pattern = rf"^\s*(?:(?:async )?def|class) {name}\b|^{name}\b.* ="
    return re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_names_exists(page: Path) -> None:
    missing = sorted(name for name, _ in named(page) if not ((ROOT / name).exists() if "/" in name else files_of(name)))
    assert not missing, f"{page.name} names {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_function_that_a_page_names_after_its_file_is_defined_there(page: Path) -> None:
    pairs = [(name, symbol) for name, symbol in named(page) if symbol]
    missing = sorted(
        f"{symbol} in {name}"
        for name, symbol in pairs
        if not any(defines(p, symbol) for p in files_of(name) if p.exists())
    )
    assert not missing, f"{page.name} names {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = sorted(target for target in targets if not (page.parent / target).exists())
    assert not missing, f"{page.name} links {', '.join(missing)}"


def test_the_index_lists_every_page() -> None:
    pages = {path.name for path in INDEX.parent.glob("*.md")} - {INDEX.name}
    assert set(re.findall(r"^\| \[.*\]\((.*)\) \|", INDEX.read_text(encoding="utf-8"), re.MULTILINE)) == pages
