"""Alembic's entry: the shared runner, on this service's schema."""

from services.escalation.store.tables import metadata
from shared.database import run_migrations

run_migrations("escalation", metadata)
