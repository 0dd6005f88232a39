"""Revocations and a new key, between the processes of a whole system."""

import threading
from collections.abc import Generator

import httpx
import pytest

from services.cli.credentials import rotate_key
from shared.http.identity import Principal, Role, issuer
from shared.settings import Settings
from tests.e2e.running import Up, trucban, until
from tests.support import passable_folder

PATHS = ("/intake/v1/reports", "/escalation/v1/incidents", "/ledger/v1/entries")
ROUTE = "/escalation/v1/credentials/revocations"


@pytest.fixture(scope="module")
def up() -> Generator[Up]:
    with passable_folder("e2e") as data, Up(data) as running:
        yield running


def issue(up: Up, role: Role) -> str:
    """As `trucban token issue --unrecorded` gives it."""
    return issuer(up.data / "keys").issue(Principal(f"thu-{role}", role))


def asked(up: Up, token: str) -> dict[str, int]:
    """By path, the status. Intake is sent what is no report."""
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=up.url, headers=headers, timeout=30) as client:
        return {
            path: (client.post(path, content=b"{}") if "intake" in path else client.get(path)).status_code
            for path in PATHS
        }


@pytest.mark.parametrize("way", ["command", "route"])
def test_a_revoked_token_is_refused_by_every_process(up: Up, way: str) -> None:
    token, admin = issue(up, "desk"), issue(up, "admin")
    assert 401 not in asked(up, token).values()
    if way == "command":
        done = trucban(up.data, "token", "revoke", token, "--reason", "thử")
        assert done.returncode == 0, done.stderr
    else:
        headers = {"authorization": f"Bearer {admin}"}
        said = {"token": token, "reason": "thử"}
        httpx.post(f"{up.url}{ROUTE}", headers=headers, json=said, timeout=30).raise_for_status()
    until(lambda: set(asked(up, token).values()) == {401}, "every service refuses the token")
    assert 401 not in asked(up, admin).values()


def test_another_key_signs_nobody_out_while_requests_come(up: Up) -> None:
    settings = Settings(data=up.data, keys=up.data / "keys")
    tokens = [issue(up, "desk")]
    refused: list[dict[str, int]] = []
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            for token in tokens:
                answers = asked(up, token)
                if 401 in answers.values():
                    refused.append(answers)

    with_load = threading.Thread(target=go_on)
    with_load.start()
    try:
        for _ in range(2):
            rotate_key(settings, end_old=False)
            tokens.append(issue(up, "desk"))
            assert 401 not in asked(up, tokens[-1]).values()
    finally:
        stop.set()
        with_load.join()
    assert refused == []
    rotate_key(settings, end_old=True)
    until(lambda: all(set(asked(up, token).values()) == {401} for token in tokens), "earlier keys verify nothing")
    assert 401 not in asked(up, issue(up, "desk")).values()
