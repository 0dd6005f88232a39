"""Real Redis and PostgreSQL as children of this process, for a machine on which no server is installed."""

from services.cli.embedded.errors import EmbeddedError, InUseError
from services.cli.embedded.servers import Servers, embedded_servers, erase

__all__ = ["EmbeddedError", "InUseError", "Servers", "embedded_servers", "erase"]
