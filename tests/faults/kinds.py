"""Every kind of fault: what it does, and for how long at most."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.faults import on_postgres, on_processes, on_redis
from tests.faults.disks import fill
from tests.faults.on_processes import Do
from tests.faults.stack import House


@dataclass(frozen=True)
class Kind:
    """`do` returns when its cause is gone; it gets the seconds drawn, between `least` and `most`."""

    name: str
    do: Do
    most: float = 0.0
    least: float = 1.0
    needs: str = ""
    """What a run must have for it: a field of Shape."""


async def fill_postgres(house: House, _: Random, seconds: float) -> None:
    await fill(house.disks["postgres"], seconds)


async def fill_redis(house: House, _: Random, seconds: float) -> None:
    await fill(house.disks["redis"], seconds)


async def silence(house: House, _: Random, seconds: float) -> None:
    """Receivers of webhooks take what they are sent, and never answer."""
    await house.receiver.keep_silent(seconds)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("kill-intake", on_processes.kill("intake")),
        Kind("kill-escalation", on_processes.kill("escalation")),
        Kind("kill-ledger", on_processes.kill("ledger")),
        Kind("kill-redis", on_processes.kill_redis),
        Kind("kill-postgres", on_processes.kill_postgres),
        Kind("freeze-intake", on_processes.freeze("intake"), 60),
        Kind("freeze-escalation", on_processes.freeze("escalation"), 60),
        Kind("freeze-ledger", on_processes.freeze("ledger"), 60),
        Kind("freeze-redis", on_processes.freeze_redis, 60),
        Kind("freeze-postmaster", on_processes.freeze_postmaster, 60),
        Kind("freeze-postgres", on_processes.freeze_postgres, 60),
        Kind("freeze-backend", on_processes.freeze_backend, 60),
        Kind("flush", on_redis.flush),
        Kind("trim", on_redis.trim, 10),
        Kind("group-destroy", on_redis.destroy_group),
        Kind("group-skip", on_redis.skip_entries, 10),
        Kind("group-consumers", on_redis.delete_consumers, 10),
        Kind("memory", on_redis.short_memory, 30),
        Kind("lock-table", on_postgres.lock_table, 30),
        Kind("lock-rows", on_postgres.lock_rows, 30),
        Kind("lock-advisory", on_postgres.lock_advisory, 30),
        Kind("timeout-statement", on_postgres.statement_timeout, 30),
        Kind("timeout-lock", on_postgres.lock_timeout, 30),
        Kind("connections", on_postgres.take_connections, 30),
        Kind("disk-postgres", fill_postgres, 40, least=5, needs="small_disks"),
        Kind("disk-redis", fill_redis, 40, least=5, needs="small_disks"),
        Kind("outage", on_processes.outage),
        Kind("clock-forward", on_processes.clock_forward),
        Kind("clock-back", on_processes.clock_back),
        Kind("restart", on_processes.restart_all),
        Kind("partitions", on_processes.change_partitions),
        Kind("silence", silence, 40, least=5),
    )
}


def chosen(words: str) -> Sequence[Kind]:
    """Kinds by name or by how their names begin, separated by commas; all for "". Raises ValueError."""
    if not words:
        return list(KINDS.values())
    found: dict[str, Kind] = {}
    for word in words.split(","):
        named = [kind for name, kind in KINDS.items() if name == word or name.startswith(f"{word}-")]
        if not named:
            raise ValueError(f"no kind of fault is called {word}: {', '.join(KINDS)}")
        found |= {kind.name: kind for kind in named}
    return list(found.values())
