"""Writes the generated documents: `python -m services.documents docs`. A test compares them with the code."""

import json
import sys
from pathlib import Path
from typing import Any

from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.rulebook import Rulebook
from shared import documents, events


def generated() -> dict[str, Any]:
    """Path under docs/ → JSON content."""
    found: dict[str, Any] = {f"schemas/{name}.json": schema for name, schema in events.schemas().items()}
    found["schemas/decision.json"] = Decision.model_json_schema(mode="serialization")
    found["schemas/rulebook.json"] = Rulebook.model_json_schema()
    found["asyncapi.json"] = documents.asyncapi()
    return found


def text_of(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def main(folder: Path) -> None:
    for name, content in generated().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(content), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
