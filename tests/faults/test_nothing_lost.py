"""Nothing that was acknowledged is lost or done twice, whichever process is killed and whatever Redis forgets."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random, SystemRandom

import asyncio
import pytest

from tests.faults import audit
from tests.faults.city import reports
from tests.faults.house import FAULTS, Fault, House, running_house
from tests.faults.load import Load
from shared.database import connect

DAYS_BACK = datetime(2023, 1, 22, tzinfo=UTC)
"""What the reports are about happened before; the rule was in force then."""
SEED = "TRUCBAN_FAULT_SEED"
LONG_FAULTS = 40


def test_all_kinds() -> None: ...
