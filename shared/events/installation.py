"""Events of the installation as a whole."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.events.common import Data, Envelope


class DataRestoredData(Data):
    """Database, keys and streams were replaced by a backup. What was recorded after it was made is not there."""

    backup_made_at: AwareDatetime
    ledger_size: Annotated[int, Field(ge=0)]
    """Entries in the ledger of the backup."""
    known_size: Annotated[int, Field(ge=0)] | None = None
    """Entries that the ledger is known to have had: by the installation that was replaced, or a checkpoint that
    somebody kept. Above `ledger_size`, the entries in between are lost."""
    known_root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The root of that checkpoint."""


class DataRestored(Envelope):
    type: Literal["vn.trucban.data.restored.v1"] = "vn.trucban.data.restored.v1"
    data: DataRestoredData
