"""Settings from the environment (prefix `TRUCBAN_`; `REDIS_URL` and `DATABASE_URL` without it) or a `.env` file."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

TELEPHONE = r"^\+?\(?[0-9](?:[ .()-]*[0-9]){3,14}$"
"""At least four digits: the desk is none of the emergency services."""
LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """One object, read once where a process starts and passed on."""

    model_config = SettingsConfigDict(
        env_prefix="TRUCBAN_", env_file=".env", extra="ignore", populate_by_name=True, frozen=True
    )

    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    """Unset: the embedded redis-server under `data`."""
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """Unset: the embedded PostgreSQL under `data`."""
    role_passwords: Mapping[Literal["intake", "escalation", "ledger"], SecretStr] = Field(default={}, repr=False)
    """Passwords that `trucban migrate` gives the services' roles in PostgreSQL, as JSON by service."""
    of_services: Mapping[str, Mapping[str, str]] = Field(default={}, exclude=True, repr=False)
    """Settings that differ from one service to the other: the addresses of embedded servers."""
    data: Path = Path("var")
    """Folder of the keys, of the embedded servers' data, and of the file that `outbox://` channels write to."""
    keys: Path | None = None
    """Folder of key files (mode 0600); unset: `data`/keys."""
    clock: AwareDatetime | None = None
    """An instant from which the clock runs on instead of the real time."""
    partitions: Annotated[int, Field(ge=1, le=64)] = 1
    """Partitions of each stream; fixed once data exists."""
    dead_letter_after: Annotated[int, Field(ge=1)] = 5
    """Deliveries of one event to one group before it goes to the dead-letter stream."""
    claim_idle_seconds: Annotated[float, Field(gt=0)] = 30.0
    """After this long without an acknowledgement another consumer takes an event over."""
    desk_channel: str = "outbox://desk"
    """Apprise URL of the city duty desk (trực ban thành phố)."""
    leadership_channel: str = "outbox://leadership"
    """Apprise URL of the city leadership, the last level that is asked."""
    channel_hosts: str = ""
    """Hosts of this network that messages may go to: names, addresses and networks, with a space or comma between."""
    channel_schemes: str = ""
    """The schemes of channels that may be used; unset: all that `channel_schemes.py` lists."""
    mail_gateway: str | None = None
    """The mail server for contacts `mailto:ADDRESS`: `mailto(s)://user:password@server:port?from=ADDRESS`."""
    sms_gateway: str | None = None
    """The service for contacts `sms:NUMBER`: an Apprise URL with `{to}` in the place of the number."""
    desk_telephone: Annotated[str, Field(pattern=TELEPHONE)] | None = None
    """Number of the city duty desk, as people dial it. It stands in notices and on the page of a link."""
    log_channel: str = "outbox://log"
    """Apprise URL that notices of exercises (diễn tập) go to, and nothing else."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] = "http://127.0.0.1:8080"
    """How post-holders reach this system from their telephones; links in notices begin with it."""
    heartbeat_url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """An outside watcher that raises the alarm when it is not called for some minutes; called while all is well."""
    log_level: LogLevel = "info"
    """Lines of the log below this level are dropped; uvicorn's own log follows."""
    print_notices: bool = False
    """Print each notice that was handed to a channel, for the demo."""
    ledger_origin: Annotated[str, Field(pattern=r"^[^\s+]+$")] = "trucban.local/ledger"
    """Origin line of the checkpoints (C2SP tlog-checkpoint)."""
    consumer: str = Field(default_factory=socket.gethostname)
    """Name of this replica in its consumer groups."""

    connections_per_client: Annotated[int, Field(ge=1)] = 500
    """Connections that one address may hold to a process."""

    rate_per_minute: Annotated[int, Field(ge=60)] = 6_000
    """Requests, and reports of batches, that one credential may send to a service, on average."""
    rate_at_once: Annotated[int, Field(ge=1_000)] = 20_000
    """The same, at once after a rest: a queue that was filled off-line, or a night's burst through one gateway."""

    @property
    def keys_dir(self) -> Path:
        return self.keys or self.data / "keys"

    def of(self, service: str) -> Self:
        """The settings of one service. They hold nothing of the others."""
        own = self.of_services.get(service, {})
        return self.model_copy(update={**own, "of_services": {}, "role_passwords": {}})
