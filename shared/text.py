"""Vietnamese text: one normal form at the boundary, and one folded form for searching."""

import re
import unicodedata
from collections.abc import Container
from functools import cache, lru_cache

from shared.unit_kinds import unit_kinds

_D_WITH_STROKE = str.maketrans({"đ": "d", "Đ": "d", "ð": "d", "Ð": "d"})

DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change in which order others are shown, so that a text may seem to say something else."""
_SHOWN = str.maketrans({c: f"[U+{ord(c):04X}]" for c in DIRECTIONS})


def normalize(text: str) -> str:
    """NFC without space at the ends: the form in which text is kept and compared."""
    return unicodedata.normalize("NFC", text).strip()


def clean_text(text: str) -> str:
    """Normalize a text that may have several lines. Raises ValueError for control characters other than these need.

    A character that changes the direction of what follows is shown as `[U+202E]`. It is not refused: whoever pastes
    from a chat cannot see it, and must be able to report.
    """
    return _check_without(normalize(text.translate(_SHOWN)), {"Cc"}, but="\n\t\r")


def clean_line(text: str) -> str:
    """Normalize a name or an id. Raises ValueError for invisible characters: ids that look alike are alike."""
    return normalize(_check_without(text, {"Cc", "Cf", "Cs"}))


def _check_without(text: str, kinds: Container[str], but: str = "") -> str:
    bad = next((c for c in text if unicodedata.category(c) in kinds and c not in but), None)
    if bad is not None:
        raise ValueError(f"holds U+{ord(bad):04X}, which cannot be seen: leave it out")
    return text


def fold(text: str) -> str:
    """Return what different spellings of a place have in common: no case, no marks, đ as d, single spaces.

    đ/Đ, and the Icelandic eth that is written for it (U+00F0, U+00D0), do not decompose, so they are mapped by hand.
    """
    decomposed = unicodedata.normalize("NFD", text.casefold().translate(_D_WITH_STROKE))
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(bare.split())


def fold_place(text: str) -> str:
    """Return `fold` without a leading kind of unit or TP., so that "P. Đông Thọ" finds "Đông Thọ".

    Nothing is kept, since anybody may ask for any text.
    """
    return _leading_kind().sub("", fold(text))


@lru_cache(maxsize=1_024)
def fold_name(name: str) -> str:
    """Return `fold_place` of a name that we have in a directory, and keep it: it is compared with many texts."""
    return fold_place(name)


def kind_of_unit(text: str) -> str | None:
    """Return the kind of unit that the text names or abbreviates, whatever its case and marks; None if it is none."""
    wanted = fold(text).rstrip(".")
    return next((kind.name for kind in unit_kinds().values() if wanted in (fold(kind.name), fold(kind.short))), None)


@cache
def _leading_kind() -> re.Pattern[str]:
    kinds = unit_kinds().values()
    names = "|".join([*(fold(kind.name) for kind in kinds), "thanh pho"])
    short = "|".join([*(fold(kind.short) for kind in kinds), "tp"])
    return re.compile(rf"^(?:(?:{names})\s+|(?:{short})(?:\.\s*|\s+))")
