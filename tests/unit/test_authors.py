"""Each event type and each command says whether a person causes it, so that a new one cannot forget its author."""

from collections.abc import Generator
from typing import get_args

import typer
from typer.models import CommandInfo

from services.cli.commands import app
from shared.events import Event, type_name
from tests.authors import BY_NOBODY, BY_PEOPLE, BY_SOME, COMMANDS, COMMANDS_THAT_RECORD_NOTHING


def test_each_event_type_says_whether_a_person_causes_it() -> None:
    union, *_ = get_args(Event)
    names = sorted({type_name(model).rpartition(".")[0] for model in get_args(union)})
    assert sorted([*BY_PEOPLE, *BY_SOME, *BY_NOBODY]) == names


def test_each_command_says_which_events_it_records() -> None:
    assert sorted([*COMMANDS, *COMMANDS_THAT_RECORD_NOTHING]) == sorted(_commands(app))
    assert {kind for kinds in COMMANDS.values() for kind in kinds} <= BY_PEOPLE


def _commands(group: typer.Typer, before: str = "") -> Generator[str]:
    for command in group.registered_commands:
        yield before + _name(command)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _commands(inner.typer_instance, f"{before}{inner.name} ")


def _name(command: CommandInfo) -> str:
    assert command.callback is not None
    return command.name or command.callback.__name__
