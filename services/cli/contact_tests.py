"""Tests of the contacts' channels, started and followed over HTTP on a running system."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from services.cli.errors import CommandError
from services.cli.options import bearer_header, check_address

PATH = "/escalation/v1/contact-tests"
LOOK_SECONDS = 0.5
IN_TROUBLE = frozenset({"retrying", "failed", "called_off", "no_channel"})
"""Outcomes of a contact that a notice would not reach now."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Followed:
    """A test as the system answers it. `heard`: False if it was still being sent when the patience ended."""

    test: dict[str, Any]
    heard: bool

    @property
    def contacts(self) -> list[dict[str, Any]]:
        return self.test["contacts"]

    @property
    def troubled(self) -> list[dict[str, Any]]:
        """Contacts of people in office that no notice would reach now."""
        return [c for c in self.contacts if c["outcome"] in IN_TROUBLE and c["in_office"]]

    @property
    def unconfirmed(self) -> list[dict[str, Any]]:
        """Contacts of people in office that nobody has confirmed."""
        return [c for c in self.contacts if c["outcome"] != "confirmed" and c["in_office"]]


def start_test(url: str, token: str | None, ward: str | None, progress: Progress, *, wait: float) -> Followed:
    """Start a test, and follow it until every message is sent or waits for quiet hours, at most `wait` seconds.

    Raises CommandError when it is refused, or the system does not answer.
    """
    with _client(url, token) as client:
        test = _answer(client, "POST", PATH, {"ward": ward} if ward is not None else {})
        until = time.monotonic() + wait
        while True:
            total = sum(c["channel"] is not None for c in test["contacts"])
            left = sum(map(_is_under_way, test["contacts"]))
            progress(total - left, total)
            if not left or time.monotonic() >= until:
                return Followed(test, heard=not left)
            time.sleep(LOOK_SECONDS)
            test = _answer(client, "GET", f"{PATH}/{test['id']}")


def read_test(url: str, token: str | None, test_id: str) -> Followed:
    """Read a test, or the `latest`. Raises CommandError."""
    with _client(url, token) as client:
        test = _answer(client, "GET", f"{PATH}/{test_id}")
    return Followed(test, heard=not any(map(_is_under_way, test["contacts"])))


def _is_under_way(contact: dict[str, Any]) -> bool:
    """Whether its message may be sent any moment: none waits for quiet hours to end."""
    return contact["outcome"] in {"waiting", "retrying"} and contact["not_before"] is None


def _client(url: str, token: str | None) -> httpx.Client:
    return httpx.Client(base_url=check_address(url), headers=bearer_header(token), timeout=30)


def _answer(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        answer = client.request(method, path, json=body)
        found: dict[str, Any] = answer.json()
        if answer.is_success:
            return found | {"contacts": found["contacts"], "id": found["id"]}  # another system may answer anything
        reason = _reason(found)
    except httpx.HTTPError as error:
        raise CommandError(f"{client.base_url} cannot be reached ({error}): is the system running?") from error
    except (ValueError, LookupError, TypeError) as error:
        raise CommandError(f"{client.base_url} answered not as Trực Ban does: is it the running system?") from error
    raise CommandError(reason)


def _reason(problem: dict[str, Any]) -> str:
    """The details of a refusal, such as the wards that a name may mean."""
    return "; ".join(str(error["detail"]) for error in problem.get("errors") or [problem])
