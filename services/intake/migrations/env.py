"""Alembic's entry: the shared runner, on this service's schema."""

from services.intake.store import metadata
from shared.database import run_migrations

run_migrations("intake", metadata)
