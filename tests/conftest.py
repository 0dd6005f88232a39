"""What all tests share: how deep Hypothesis looks, and one pair of real servers for everything that crosses a process.

HYPOTHESIS_PROFILE=full (`make test-full`) is the full depth; `ci`, the default, takes minutes on two cores.
"""

import os
from collections.abc import AsyncGenerator

import pytest
from hypothesis import HealthCheck, settings

from shared.embedded import Servers
from tests.support import City, Template, city_in, migrated_template, running_servers

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
"""Not failures on a machine that others use too."""
settings.register_profile("ci", max_examples=40, deadline=None, suppress_health_check=SLOW)
settings.register_profile("full", max_examples=1_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
async def servers() -> AsyncGenerator[Servers]:
    """Redis and PostgreSQL, the embedded ones; a module that does harm to its servers has a pair of its own."""
    async with running_servers() as running:
        yield running


@pytest.fixture(scope="session")
async def template(servers: Servers) -> Template:
    """A migrated database with the sample city's rulebook, wards and post-holders, to be cloned."""
    return await migrated_template(servers)


@pytest.fixture
async def city(template: Template) -> AsyncGenerator[City]:
    """The core of escalation on a database of its own; nothing runs beside the test."""
    async with city_in(template) as made:
        yield made
