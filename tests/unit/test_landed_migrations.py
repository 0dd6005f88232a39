"""A migration that landed on the main branch never changes: databases have run it."""

import hashlib
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
LANDED = {
    "escalation/0001_escalation": "2fb7751a0924aae1926e57b82e5573a96a1a0e52b57e168d0615c170eb2030ef",
    "escalation/0002_escalation_in_full": "3013a16470d2d5c768d5491e74d51d9c16c2e37e47b4ebadab0b338d0838178a",
    "escalation/0003_mend_0002": "e6f6600b5f73cb30639282b0a5e516608b852f27c03f31b8266732596accdf84",
    "escalation/0004_numbers_when_written": "929b9c55e8b88713fa51d8ed5bedbeb311deee19f95f9ceb94a3b8cdd5a3aada",
    "escalation/0005_messages_and_set_times": "cac44f6ba171c241bbb9a8f6d2ac997641713e311594c976052c85ba7ae864d2",
    "escalation/0006_whom_it_waits_for": "64d56edee1595acb1b4b611b4b9fa23e24ba659beb582876335908c1de332ad3",
    "escalation/0007_partitions_are_stored": "d0a87324bafe6c780d6ff8cbc11671b04540fe5e85bc48ff7781127497b9ded9",
    "escalation/0008_event_of_notice_and_decision": "233435f9a061126ac7246eaec9bc15977f8f17f3bf53b698f856623a6ade92c9",
    "escalation/0009_without_an_incident": "99a67a4b7619104d4d42b9e07ff482d82e8901b9f98e0f814324d3c5dd6ef756",
    "escalation/0010_postings": "2e6fb8247c81cd23c0173e476f8f4fc17259a1cc5eb980590fb5347abd2bf2be",
    "escalation/0011_credentials": "69ab2668732744aa1bf4f8b3bccb8ac6c1a6f6ea1d1b1d96a080c151e442241d",
    "intake/0001_intake": "e33157ed5265e1c4e7ae9f53f8c10d5c45c61ab6fe672f330dc113294f5da606",
    "intake/0002_numbers_when_written": "d02e2d42afaeef3ae8b6ad323c65c5ae46889c7104a1001639a784f4e5d4581a",
    "intake/0003_partitions_are_stored": "55e27d78b7d1a6304c04ee15f81b511d50c2176d278a347576cf6d1bf291948b",
    "intake/0004_own_id": "8ffd418d5d5f80964edc8e261c2b8ac4e7f4d229055af9456181bd8f4bf802e4",
    "intake/0005_successors_of_units": "8bfdf4f18bc60f27728e2b7c37bbca9f89b6bb8e2c119df02aa5850250714f22",
    "intake/0006_ids_of_their_senders": "c37c5e0080d2b59976edfa3fee32787d5446c7d923d76ce993098bc2f45166a8",
    "intake/0007_postings": "e6a960caaccbc932900d9dc414c8d8f0cc104e45438c7857e957825987655aea",
    "intake/0008_credentials": "1ab197ab38d4c3f34dc5fa607fd14558e79ee7526b5c1840f2ea831d9d71bd6f",
    "ledger/0001_ledger": "81daf1d22751e9859b2acafecec87353072e39b18038badf3f48811a39f02c71",
    "ledger/0002_partitions_are_stored": "6807d0740affa0bf031d7d20d3e5c66bdd5b4609d9bafdca3d514b5f1c99994d",
    "ledger/0003_credentials": "9898164d9a8708f94c412a69dfe67b8ca1aa9d295e62ce0a3684bf16a7c0687b",
}
"""SHA-256 of each migration: as of c259847 for those that stood there, as of its first commit for a later one.

A new migration adds its line. A line that stands here never changes.
"""


def migrations() -> dict[str, Path]:
    return {f"{path.parents[2].name}/{path.stem}": path for path in SERVICES.glob("*/migrations/versions/*.py")}


@pytest.mark.parametrize("name", sorted(LANDED))
def test_a_migration_that_landed_is_what_it_was(name: str) -> None:
    found = hashlib.sha256(migrations()[name].read_bytes()).hexdigest()
    assert found == LANDED[name], f"{name} has landed and was changed: put the change into a new migration"


def test_every_migration_is_watched() -> None:
    new = sorted(migrations().keys() - LANDED.keys())
    assert not new, f"add to LANDED, with the SHA-256 of its content: {', '.join(new)}"
