"""What whoever comes on duty is told."""

from datetime import timedelta
from typing import get_args

import pytest

from services.escalation.domain.incidents.obligations import What
from services.escalation.domain.notices import shift
from services.escalation.domain.notices.shift import Counts, WaitingIncident
from tests.support import NIGHT


@pytest.mark.parametrize("what", get_args(What))
def test_there_is_a_word_for_whatever_an_incident_can_wait_for(what: What) -> None:
    waiting = WaitingIncident("2101-K4T7M", "FIRE", "phường Ba Đình", NIGHT, None, (what,), NIGHT + timedelta(days=1))
    _, body = shift.words("desk", ("phường", "Ba Đình"), [waiting], Counts(1, 1), NIGHT)
    assert ": , hạn" not in body
