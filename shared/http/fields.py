"""Types of fields that the answers of several services share, and how the documents describe them."""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from shared import inputs
from shared.taxonomy import categories
from shared.unit_kinds import unit_kinds

T = TypeVar("T")


class Answer(BaseModel):
    """What a route answers. The text under a field describes it in the documents."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Page(Answer, Generic[T]):
    """One page of a list."""

    # off: pydantic would look for the text of each `Page[T]` in all modules, for 0.1 s
    model_config = ConfigDict(use_attribute_docstrings=False)

    items: list[T]
    next: Annotated[str | None, Field(description="Cursor of the next page; null at the end.")]


@dataclass(frozen=True)
class Stored:
    """`Annotated[dict[str, Any], Stored(Model)]`: JSON of a `Model` that was made or stored before.

    It is answered key for key, without being checked again, and described as the model. Reading it from JSON
    checks it, which is for tests.
    """

    model: Any
    """A model, or a union of some."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=handler.generate_schema(self.model),
            python_schema=core_schema.any_schema(),
            serialization=core_schema.simple_ser_schema("any"),
        )


_CATEGORY = WithJsonSchema(
    {
        "type": "string",
        "enum": list(categories()),
        "description": "; ".join(f"`{c.code}`: {c.label_vi} ({c.label_en})" for c in categories().values()),
    }
)
Category = Annotated[str, _CATEGORY]
UnitKind = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "description": "; ".join(f"`{kind.name}`: {kind.label_en}" for kind in unit_kinds().values()),
        }
    ),
]
KnownCategory = Annotated[inputs.KnownCategory, _CATEGORY]
"""The same as a parameter."""
Severity = Annotated[int, Field(ge=1, le=4)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
