"""`trucban`: the command line, and the only place that knows all three services."""

from services.cli.program import main

__all__ = ["main"]
