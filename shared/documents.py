"""The published description of the streams, in AsyncAPI 3. Pure."""

from collections.abc import Collection
from typing import Any

from shared.events import TYPE_PREFIX, schemas
from shared.messaging import ESCALATION, GROUPS, INTAKE

SENT_BY_INTAKE = ("report.received.", "report.amended.", "evidence.", "source.")
SENT_BY_ALL = ("dead_letter.", "credential.refused.")


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0.0: who sends what on which stream, and which consumer groups read it."""
    found = schemas()
    messages = {
        name: {
            "name": f"{TYPE_PREFIX}{name}",
            "contentType": "application/cloudevents+json",
            "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": schema},
        }
        for name, schema in found.items()
    }
    channels = {
        base: {
            "address": f"{base}.{{partition}}",
            "description": "Redis stream; one entry is one event in the field __data__. Partitioned by ward code.",
            "parameters": {"partition": {"description": "{0} to {n-1}, braces included"}},
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in found if base in _sent_on(name)},
        }
        for base in GROUPS
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Trực Ban streams", "version": "1"},
        "channels": channels,
        "operations": _operations(),
        "components": {"messages": messages},
    }


def _sent_on(name: str) -> Collection[str]:
    if name.startswith(SENT_BY_ALL):
        return GROUPS
    return (INTAKE,) if name.startswith(SENT_BY_INTAKE) else (ESCALATION,)


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for base, groups in GROUPS.items():
        sender = base.rpartition(".")[2]
        channel = {"$ref": f"#/channels/{base}"}
        operations[f"{sender}.publish"] = {"action": "send", "channel": channel}
        operations |= {f"{group}.consume.{sender}": {"action": "receive", "channel": channel} for group in groups}
    return operations
