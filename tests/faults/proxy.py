"""The shipped nginx before the services, with the addresses of a run in the place of those of the containers."""

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
START_SECONDS = 30.0


def can_proxy() -> bool:
    return shutil.which("nginx") is not None


@asynccontextmanager
async def running_proxy(data: Path, upstreams: Mapping[str, Sequence[str]]) -> AsyncGenerator[str | None]:
    """Its address; None where `upstreams`, the addresses of each service's processes, is empty."""
    if not upstreams:
        yield None
        return
    home = data / "nginx"
    home.mkdir(mode=0o700)
    port = _free_port()
    (home / "nginx.conf").write_text(adapted(SHIPPED.read_text(encoding="utf-8"), home, port, upstreams))
    command = ["nginx", "-p", home, "-c", home / "nginx.conf", "-g", "daemon off;"]
    process = _start(command, data / "log" / "nginx.log")
    try:
        await _until_alive(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def _start(command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def adapted(shipped: str, home: Path, port: int, upstreams: Mapping[str, Sequence[str]]) -> str:
    """Everything else stays as it is shipped. Raises AssertionError when the shipped file no longer says what is
    replaced."""
    blocks = "\n".join(_upstream(name, urls) for name, urls in upstreams.items())
    for old, new in (
        (r"/tmp/", f"{home}/"),
        (r"error_log stderr", f"error_log {home}/error.log"),
        (r"access_log /dev/stdout entry;", "access_log off;"),
        (r"resolver [^;]*;", ""),
        (r"listen 8080;", f"listen 127.0.0.1:{port};"),
        (r"http://\$service:8000;", "http://$service;"),
        (r"\n  server \{", f"\n{blocks}\n  server {{"),
    ):
        shipped, count = re.subn(old, lambda _, new=new: new, shipped)
        assert count, f"deploy/nginx.conf no longer says {old}"
    return shipped


def _upstream(name: str, urls: Sequence[str]) -> str:
    """The shipped proxy asks a name server at each request, and forgets what failed. A list of servers would not: one
    that failed would be left out for ten seconds, and with it a service that is back and says so."""
    servers = "".join(f"server {url.removeprefix('http://')} max_fails=0; " for url in urls)
    return f"  upstream {name} {{ {servers}}}"


async def _until_alive(url: str) -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(START_SECONDS):
        while True:
            try:
                if (await client.get(f"{url}/healthz")).is_success:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
