"""Routes under `/ledger/v1`: parse, authorise, call, answer."""

from services.ledger.api.routes import export_lines, router

__all__ = ["export_lines", "router"]
