from services.escalation.store.tables import metadata
from shared.database import run_migrations

run_migrations("escalation", metadata)
