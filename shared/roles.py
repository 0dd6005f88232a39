"""The role of each service in PostgreSQL: it works in the tables of its own schema, and owns none of them.

So a service cannot change a table, switch off a trigger, or read what another one keeps. One table is open to all:
that of revocations, which must be read while the broker is away. `migrate` runs as the owner.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_GRANT = """
DO $grant$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreaterole)) THEN
            RETURN;
        END IF;
        BEGIN
            CREATE ROLE {role} LOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN  -- made at the same moment, for another database
        END;
    END IF;
    IF NOT has_schema_privilege('{role}', '{schema}', 'USAGE') OR EXISTS (
        SELECT FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'
        AND relname <> 'alembic_version' AND NOT has_table_privilege('{role}', oid, 'DELETE')
    ) THEN
        GRANT USAGE ON SCHEMA {schema} TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
        REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role};
    END IF;
END
$grant$
"""
_SHARE = """
DO $share$
DECLARE reader TEXT;
BEGIN
    FOR reader IN SELECT rolname FROM pg_roles WHERE rolname IN ('trucban_intake', 'trucban_ledger')
        AND to_regclass('escalation.revocation') IS NOT NULL LOOP
        IF NOT has_schema_privilege(reader, 'escalation', 'USAGE')
            OR NOT has_table_privilege(reader, 'escalation.revocation', 'SELECT') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA escalation TO %I', reader);
            EXECUTE format('GRANT SELECT ON escalation.revocation TO %I', reader);
        END IF;
    END LOOP;
END
$share$
"""


def role_of(service: str) -> str:
    return f"trucban_{service}"


async def grant_role(connection: AsyncConnection, service: str) -> None:
    """Let the service's role work in its schema, in the caller's transaction. The role is made if it is not there.

    Where the owner may make none, the services go on with the owner's role.
    """
    await connection.exec_driver_sql(_GRANT.format(role=role_of(service), schema=service))


async def share_revocations(connection: AsyncConnection) -> None:
    """Let the services that do not own credentials read which were revoked, once table and roles are there."""
    await connection.exec_driver_sql(_SHARE)


async def set_password(connection: AsyncConnection, service: str, password: str) -> None:
    """For a server that asks for one. Raises DBAPIError if the role is not there."""
    quoted = await connection.scalar(text("SELECT quote_literal(:password)"), {"password": password})
    await connection.exec_driver_sql(f"ALTER ROLE {role_of(service)} LOGIN PASSWORD {quoted}")
