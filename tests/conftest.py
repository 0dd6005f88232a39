"""What all tests share: how deep Hypothesis looks, and one pair of real servers for all processes of a run.

HYPOTHESIS_PROFILE=full (`make test-full`) is the full depth; `ci`, the default, takes minutes on two cores.
"""

import gc
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.workermanage import WorkerController

from services.cli import OBJECTS_BETWEEN_COLLECTIONS
from services.cli.embedded import Servers
from tests.integration.escalation_support import City, Template, WholeCity, city_in, migrated_template, whole_city_in
from tests.keeper import Keeper
from tests.servers import shared_servers
from tests.support import NIGHT

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
"""No failures on a machine that is busy with other work too."""
settings.register_profile("ci", max_examples=40, deadline=None, suppress_health_check=SLOW)
settings.register_profile("full", max_examples=1_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


KEEPER = pytest.StashKey[Keeper]()
WORKERS_PER_CORE = 2
"""Tests wait for servers and other processes half of their time."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return WORKERS_PER_CORE * len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)  # as the command line does, so that collecting tests is quicker
    if not hasattr(config, "workerinput"):
        config.stash[KEEPER] = Keeper()


def pytest_collection_finish() -> None:
    gc.freeze()  # modules and tests stay to the end: looking through them again and again is a tenth of the run


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    node.workerinput["keeper"] = str(node.config.stash[KEEPER].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    if KEEPER in config.stash:
        config.stash[KEEPER].end()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """The Redis and the PostgreSQL of the test run. A module that harms its servers has some of its own."""
    worker: dict[str, str] | None = getattr(pytestconfig, "workerinput", None)
    return shared_servers(Path(worker["keeper"]) if worker else pytestconfig.stash[KEEPER].folder)


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
