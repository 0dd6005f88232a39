"""The command line beside a running system: in this process on a test's database, or as a process of its own."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from services.cli.commands import app

ROOT = Path(__file__).parents[2]


async def trucban(database_url: str, *arguments: str | Path, **more: str) -> Result:
    """In a thread, since a command runs an event loop of its own. `more`: of its environment."""
    environment = {"DATABASE_URL": database_url, "COLUMNS": "200"} | more
    return await asyncio.to_thread(CliRunner().invoke, app, [str(a) for a in arguments], env=environment)


async def trucban_process(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """With no address but those that it finds in the data folder."""
    hidden = ("REDIS_URL", "DATABASE_URL")
    environment = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("TRUCBAN_")}
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
