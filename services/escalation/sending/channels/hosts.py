"""Which hosts messages may go to: those of the internet, and those of this network that a setting lists.

What counts is the address to which a connection is made. So a name is resolved once, every address that it has is
judged, and the connection goes to one of these: a name that leads elsewhere a moment later changes nothing.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import idna

Address = IPv4Address | IPv6Address
NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
LOOPBACK = ip_address("127.0.0.1")
NAT64 = ip_network("64:ff9b::/96")
COMPATIBLE = ip_network("::/96")
SETTING = "TRUCBAN_CHANNEL_HOSTS"


class HostError(Exception):
    """Nothing may be sent to a host. The text names it and the way out."""


def canonical(host: str) -> str:
    """Return a host in the one form in which it is judged and resolved. Raises ValueError for what is none.

    A number in another notation than a dotted address, which many resolvers take for an address, is none.
    """
    bare = host.strip("[]").removesuffix(".").lower()
    try:
        return str(ip_address(bare.partition("%")[0]))
    except ValueError:
        name = bare if bare.isascii() else idna.encode(bare, uts46=True).decode()
    if not NAME.fullmatch(name) or len(name) > 253:
        raise ValueError(f"{name[:80]!r} is no name of a host")
    if NUMBER.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f"{name} is a number: write the address with four decimal numbers")
    return name


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet. What an IPv6 address wraps is judged."""
    if isinstance(address, IPv6Address):
        if (wrapped := _wrapped(address)) is not None:
            return is_public(wrapped)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    if address in NAT64 or address in COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


@dataclass(frozen=True)
class Hosts:
    """Hosts of this network that messages may go to.

    `listed`: names, addresses and networks. A name that is listed may lead anywhere.
    """

    listed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError that names the part that is wrong."""
        _ = self._names, self._networks

    @cached_property
    def _networks(self) -> Sequence[Any]:
        return [ip_network(each) for each in self.listed if _is_network(each)]

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(canonical(each) for each in self.listed if not _is_network(each))

    def error(self, host: str) -> str | None:
        """Return why nothing goes to a host, as far as its text tells: a name is not resolved."""
        try:
            name = canonical(host)
        except ValueError as error:
            return f"not to this host: {error}"
        if name == "localhost" or name.endswith(".localhost"):
            return self._error_of(name, LOOPBACK)
        return self._error_of(name, ip_address(name)) if _is_network(name) else None

    def judge(self, host: str, found: Sequence[Any]) -> list[str]:
        """Return the addresses of `getaddrinfo`. Raises HostError if one is not allowed."""
        name = canonical(host)
        addresses = [str(each[4][0]) for each in found]
        for each in addresses:
            if error := self._error_of(name, ip_address(each.partition("%")[0])):
                raise HostError(error)
        return addresses

    async def resolve(self, host: str, port: int) -> list[str]:
        """Raises HostError and OSError."""
        loop = asyncio.get_running_loop()
        return self.judge(host, await loop.getaddrinfo(_to_resolve(host), port, type=socket.SOCK_STREAM))

    def resolve_blocking(self, host: str, port: int) -> list[str]:
        """The same in a thread."""
        return self.judge(host, socket.getaddrinfo(_to_resolve(host), port, type=socket.SOCK_STREAM))

    def _error_of(self, name: str, address: Address) -> str | None:
        wrapped = _wrapped(address) if isinstance(address, IPv6Address) else None
        within = [each for each in self._networks if address in each or (wrapped is not None and wrapped in each)]
        if name in self._names or within or is_public(address):
            return None
        where = name if name == str(address) else f"{name} ({address})"
        return f"not to {where}, which is not of the internet: if it is meant, list it in {SETTING}"


def _to_resolve(host: str) -> str:
    try:
        return canonical(host)
    except ValueError as error:
        raise HostError(f"not to this host: {error}") from None


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
