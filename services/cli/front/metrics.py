"""The metrics of several processes in one text."""

from collections.abc import Iterator, Mapping

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

FRONT = "front"
OF_THE_FRONT = ("process_", "python_", "trucban_event_loop_", "trucban_check_failing")
"""Beginnings of names. It has the others too, since it imports the services, and they stand still."""


class _Merged(Collector):
    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def merge(texts: Mapping[str, bytes]) -> bytes:
    """Prometheus text of what each process tells, by its name: the label `process` says which.

    Of the process `FRONT`, only what it has of its own.
    """
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text.decode()):
            if process == FRONT and not family.name.startswith(OF_THE_FRONT):
                continue
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            known.samples += [s._replace(labels={**s.labels, "process": process}) for s in family.samples]
    return generate_latest(_Merged(families))
