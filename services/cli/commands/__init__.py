"""The commands of `trucban`: one file a group, with options, what is printed, and exit codes.

A command imports the services, the HTTP client and the like when it is called: importing them takes longer than most
commands do.
"""

import typer

from services.cli.commands import (
    backups,
    contacts,
    dead_letters,
    decisions,
    doctor,
    imports,
    ledger,
    partitions,
    reports,
    rulebooks,
    system,
    tokens,
)

app = typer.Typer(
    help="Trực Ban: incident reports, who answers for them, and the proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(name="up")(system.up)
app.command(name="serve")(system.serve)
app.command(name="migrate")(system.migrate)
app.command(name="doctor")(doctor.doctor)
app.command(name="backup")(backups.backup)
app.command(name="restore")(backups.restore)
app.command(name="partitions")(partitions.partitions)
app.command(name="report")(reports.report)
app.add_typer(tokens.app, name="token")
app.add_typer(imports.app, name="import")
app.add_typer(contacts.app, name="contacts")
app.add_typer(ledger.app, name="ledger")
app.add_typer(rulebooks.app, name="rulebook")
app.add_typer(decisions.app, name="decisions")
app.add_typer(dead_letters.app, name="dead-letters")
