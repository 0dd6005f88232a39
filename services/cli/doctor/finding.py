"""One thing that is wrong with an installation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`value` never holds a secret or a person's address."""

    check: str
    """What was looked at, such as `settings`."""
    what: str
    value: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.what}: {self.value}: {self.way_out}"
