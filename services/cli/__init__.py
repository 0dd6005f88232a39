"""`trucban`: the command line, and the only place that knows all three services."""

from services.cli.commands import main

__all__ = ["main"]
