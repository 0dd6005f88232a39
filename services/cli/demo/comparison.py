"""Comparing what the system shows of an incident with what a row of the sample expects."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

OFFICES = ("desk", "leadership")
IN_ANY_ORDER = frozenset({"told", "candidates", "related"})


class Comparison:
    """The differences that were found, and the labels by which the sample names incidents, whose ids it cannot know."""

    def __init__(self) -> None:
        self.differences: list[str] = []
        self._label_of: dict[str, str] = {}
        """By incident id; empty for an incident that no row has named yet."""
        self._seen: dict[str, set[str]] = {}
        """By incident id: the notices that a row was compared with."""

    @property
    def incidents(self) -> list[str]:
        """Ids of all incidents that were met."""
        return list(self._label_of)

    def meet(self, incident_id: str) -> None:
        """Note that there is this incident."""
        self._label_of.setdefault(incident_id, "")

    def observe(self, incident: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """The incident in the words of the sample. Notices are those since a row last expected some."""
        record = incident["decision"]["record"]
        parties = record["parties"]
        new = self._new_notices(incident) if "told" in row["expected"] else []
        sent = Counter(d["notice_id"] for d in incident["deliveries"])
        return {
            "state": incident["state"],
            "decision": record["outcome"],
            "standing": record["standing"],
            "limb": record.get("limb"),
            "severity": record.get("severity"),
            "accountable": {p["post"]: _holder(p, "accountable") for p in parties},
            "present": {p["post"]: _holder(p, "deputy") or _holder(p, "present") for p in parties},
            "decisions": len(incident["decisions"]),
            "related": [self._label_of.get(r["id"], "") for r in incident["related"]],
            "told": [describe_notice(n, incident) for n in new],
            "channels": {describe_notice(n, incident): sent[n["notice_id"]] for n in incident["notices"]},
        }

    def compare(self, row: dict[str, Any], found: Mapping[str, Any]) -> None:
        """Note each expected field of the row that was found otherwise."""
        for name, expected in row["expected"].items():
            actual = found.get(name)
            if name in {"incident", "new_incident"}:
                actual = self._label(str(actual), expected)
            if name == "channels":
                actual = {key: found[name].get(key) for key in expected}
            if name in IN_ANY_ORDER:
                expected, actual = sorted(expected), sorted(actual or [])
            if actual != expected:
                where = f"{row['at']} {row['case']}"
                self.differences.append(f"{where}: {name} should be {expected!r} and is {actual!r} ({row['why']})")

    def compare_rest(self, incident: dict[str, Any]) -> None:
        """Note the notices of an incident that no row expected."""
        unexpected = sorted(describe_notice(n, incident) for n in self._new_notices(incident))
        if unexpected:
            self.differences.append(f"{self._label_of[incident['id']]}: no row expects {unexpected!r}")

    def _new_notices(self, incident: dict[str, Any]) -> list[dict[str, Any]]:
        seen = self._seen.setdefault(incident["id"], set())
        new = [n for n in incident["notices"] if n["notice_id"] not in seen]
        seen.update(n["notice_id"] for n in new)
        return new

    def _label(self, incident_id: str, expected: str) -> str:
        """The label of this incident. One without a label takes the expected one, unless another has it."""
        known = self._label_of.get(incident_id)
        if known:
            return known
        if expected in self._label_of.values():
            return f"another incident than the earlier {expected}"
        self._label_of[incident_id] = expected
        return expected


def describe_notice(notice: dict[str, Any], incident: dict[str, Any]) -> str:
    """Who was told, and for what purpose, as the sample writes it."""
    purpose, recipient = notice["purpose"], notice["recipient"]
    if recipient in OFFICES:
        text = f"{recipient}:{purpose}"
    elif purpose == "duty":
        text = "duty"
    else:
        posts = "+".join(sorted(notice["posts"]))
        records = [d["record"] for d in incident["decisions"]]
        is_deputy = any(_holder(p, "deputy") == recipient for r in records for p in r["parties"])
        text = f"deputy of {posts}" if is_deputy else posts
        text += "" if purpose == "accountable" else f":{purpose}"
    return f"log:{text}" if notice["exercise"] else text


def _holder(party: dict[str, Any], role: str) -> str | None:
    return (party.get(role) or {}).get("holder_id")
