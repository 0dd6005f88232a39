"""What the tests of wording share: words that accuse, and ids."""

from typing import get_args

from services.escalation.domain.notices import wording
from services.escalation.domain.notices.notification import Purpose

ACCUSING = (
    "vi phạm", "có tội", "phạm tội", "lỗi của", "có lỗi", "sai phạm", "quy trách nhiệm", "kỷ luật", "buông lỏng",
    "guilty", "liable", "violat", "at fault", "blame", "offend", "negligen", "disciplin", "responsible",
)  # fmt: skip
ID = "0185d5{:02x}-b871-7a35-af5d-786fe7d51396".format
"""Of an incident of the afternoon of 21 January."""
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def without_labels(text: str, *found: str) -> str:
    """What the law calls the category is not what the notice says of its reader."""
    for category in found:
        for label in (*wording.labels(category), *wording.short_labels(category)):
            text = text.replace(label.casefold(), "")
    return text
