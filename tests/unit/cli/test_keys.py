"""Each service is given the keys that it opens, and no others."""

from pathlib import Path
from typing import get_args

import pytest

from services.cli.credentials import rotate_key
from services.cli.keys import KEYS_OF, deal_keys, make_keys
from services.cli.options import ServiceName
from services.cli.process import load_service
from shared.clock import Clock
from shared.database import SERVICES
from shared.http.identity import Principal, issuer, verifier
from shared.http.problem import Problem
from shared.settings import Settings
from tests.support import NIGHT


@pytest.mark.parametrize("service", get_args(ServiceName))
def test_a_service_is_built_with_its_own_keys_and_needs_no_other(service: ServiceName, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    make_keys(keys)
    for name in SERVICES:
        (keys / name).mkdir()
    assert deal_keys(keys) == list(SERVICES)
    own = keys / service
    given = {path.name for path in own.iterdir()}
    assert given == set(KEYS_OF[service])
    settings = Settings(redis_url="redis://nowhere", database_url="postgresql://nowhere/x", keys=own, data=tmp_path)
    load_service(service)(settings, Clock(NIGHT))
    assert {path.name for path in own.iterdir()} == given, "none was made anew"
    assert {path.stat().st_mode & 0o777 for path in own.iterdir()} == {0o600}


def test_a_key_that_was_made_anew_reaches_who_has_a_copy(tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "escalation").mkdir()
    deal_keys(tmp_path)
    (tmp_path / "link.key").unlink()
    make_keys(tmp_path)
    assert deal_keys(tmp_path) == ["escalation"]
    assert (tmp_path / "escalation" / "link.key").read_bytes() == (tmp_path / "link.key").read_bytes()


def test_another_key_of_tokens_reaches_who_has_a_copy_and_signs_nobody_out(tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "ledger").mkdir()
    deal_keys(tmp_path)
    settings, desk = Settings(keys=tmp_path, data=tmp_path), Principal("truc-ban", "desk")
    before = issuer(tmp_path).issue(desk)
    rotate_key(settings, end_old=False)
    after = issuer(tmp_path).issue(desk)
    assert [verifier(tmp_path / "ledger").verify(token) for token in (before, after)] == [desk, desk]
    rotate_key(settings, end_old=True)
    for token in (before, after):
        with pytest.raises(Problem):
            verifier(tmp_path / "ledger").verify(token)
    assert verifier(tmp_path / "ledger").verify(issuer(tmp_path).issue(desk)) == desk
