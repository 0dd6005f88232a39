"""What is wrong with an installation, and what to do."""

import os
from collections.abc import Mapping

import httpx

from services.cli.doctor.files import check_disk, check_keys
from services.cli.doctor.finding import Finding
from services.cli.doctor.settings import check_channels, check_clock, check_destinations, check_names
from services.cli.embedded import EmbeddedError
from services.cli.errors import CommandError
from services.cli.infrastructure import existing_system, has_database
from shared.http.identity import verifier
from shared.http.problem import Problem
from shared.settings import Settings

READY_SECONDS = 10.0


async def examine(settings: Settings, url: str | None = None) -> list[Finding]:
    """Look at everything that can be known now. `url`: of the running system, whose readiness is asked too."""
    found = [
        *check_names(),
        *check_channels(settings),
        *check_destinations(settings),
        *check_clock(settings),
        *check_disk(settings.data),
        *check_keys(settings.keys_dir),
        *check_token(settings),
        *await _check_system(settings),
    ]
    return [*found, *(await _check_readiness(url) if url is not None else ())]


def check_token(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Whether the token that commands use is one of this system."""
    token = environment.get("TRUCBAN_TOKEN")
    if not token or not any((settings.keys_dir / f"token.{kind}").exists() for kind in ("pem", "pub")):
        return []
    try:
        verifier(settings.keys_dir).verify(token)
    except Problem as problem:
        return [Finding("tokens", "TRUCBAN_TOKEN", problem.detail, "issue one: trucban token issue")]
    return []


async def _check_system(settings: Settings) -> list[Finding]:
    if not has_database(settings):
        way_out = "start it: trucban up --no-sample, or name its data folder with --data, or set DATABASE_URL"
        return [Finding("database", str(settings.data), "there is no system here", way_out)]
    from services.cli.doctor.servers import check_servers

    try:
        async with existing_system(settings) as ready:
            return await check_servers(ready)
    except (CommandError, EmbeddedError, OSError) as error:
        return [Finding("database", str(settings.data), str(error), "see the line before, and the logs in the folder")]


async def _check_readiness(url: str) -> list[Finding]:
    """What `/readyz` of the running system says is wrong."""
    try:
        async with httpx.AsyncClient(timeout=READY_SECONDS) as client:
            answer = await client.get(f"{url}/readyz")
            checks = answer.json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return [Finding("readiness", url, f"no answer ({type(error).__name__})", "start the system, or correct --url")]
    return [Finding("readiness", str(c["name"]), str(c["detail"]), "see the log") for c in checks if not c["ok"]]
