"""What all tests share: how deep Hypothesis looks, and one pair of real servers for what crosses a process.

HYPOTHESIS_PROFILE=full (`make test-full`) is the full depth; `ci`, the default, takes minutes on two cores.
"""

import os
from collections.abc import AsyncGenerator

import pytest
from hypothesis import HealthCheck, settings

from services.cli.embedded import Servers, embedded_servers
from tests.integration.escalation_support import (
    City,
    Template,
    WholeCity,
    city_in,
    migrated_template,
    whole_city_in,
    without_fsync,
)
from tests.support import NIGHT, passable_folder

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
"""No failures on a machine that is busy with other work too."""
settings.register_profile("ci", max_examples=40, deadline=None, suppress_health_check=SLOW)
settings.register_profile("full", max_examples=1_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
async def servers() -> AsyncGenerator[Servers]:
    """Redis and PostgreSQL, the embedded ones. A module that harms its servers has a pair of its own."""
    with passable_folder("tests") as folder:
        async with embedded_servers(folder) as running:
            await without_fsync(running)
            yield running


@pytest.fixture(scope="session")
async def template(servers: Servers) -> Template:
    """A migrated database with the sample city's rulebook, wards and post-holders, to be cloned."""
    return await migrated_template(servers)


@pytest.fixture(scope="session")
async def shared_city(template: Template) -> AsyncGenerator[City]:
    """For tests that call `emptied` themselves, once an example."""
    async with city_in(await template.clone()) as made:
        yield made


@pytest.fixture
async def city(shared_city: City) -> City:
    """The core of escalation ten minutes before giao thừa, nothing reported yet, nothing running beside."""
    await shared_city.emptied()
    shared_city.clock.set(NIGHT)
    return shared_city


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    """Escalation as a service with its routes, for the tests of one module."""
    async with whole_city_in(template) as made:
        yield made
