"""The hosts to which the thread that sends through Apprise may connect."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from services.escalation.sending.channels.hosts import HostError, Hosts

_now: ContextVar[tuple[Hosts, list[str]] | None] = ContextVar("connecting_to", default=None)


@contextmanager
def connecting_to(hosts: Hosts) -> Generator[list[str]]:
    """Let `addresses` judge by `hosts` in this thread. Yields the refusals, which a plug-in may swallow."""
    refused: list[str] = []
    token = _now.set((hosts, refused))
    try:
        yield refused
    finally:
        _now.reset(token)


def addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host that may be connected to. Raises OSError, also for a host that is refused.

    Where nobody said which hosts of this network are listed, none is.
    """
    hosts, refused = _now.get() or (Hosts(), [])
    try:
        return hosts.resolve_blocking(host, port)
    except HostError as error:
        refused.append(str(error))
        raise OSError(str(error)) from None
