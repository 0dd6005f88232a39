"""What is wrong with the settings, and where notices and links go by them. No server is asked."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic_settings import DotEnvSettingsSource

from services.cli.doctor.finding import Finding
from services.cli.errors import UsageError
from shared.settings import Settings

OF_COMMANDS = frozenset({"TRUCBAN_URL", "TRUCBAN_TOKEN"})
OF_COMPOSE = frozenset({"TRUCBAN_PORT", "TRUCBAN_BIND", "TRUCBAN_IMAGE"})
WITHOUT_PREFIX = frozenset(str(f.validation_alias) for f in Settings.model_fields.values() if f.validation_alias)
KNOWN = (
    frozenset(f"TRUCBAN_{name.upper()}" for name, f in Settings.model_fields.items() if not f.validation_alias)
    | OF_COMMANDS
    | OF_COMPOSE
)
OFFICES = ("desk", "leadership")
CORRECT_IT = "correct it in the environment or in .env"


def where_it_goes(settings: Settings) -> dict[str, str]:
    """Where the desk, the leadership and links lead to, without a secret or a person's address."""
    from services.escalation.sending.channels import shown_channel

    channels = {name: shown_channel(_channels(settings)[name]) for name in OFFICES}
    return channels | {"links": _shown_address(settings.public_url)}


def refuse_wrong_channels(settings: Settings) -> None:
    """Raise UsageError that names each channel that cannot work."""
    if wrong := check_channels(settings):
        raise UsageError("; ".join(map(str, wrong)))


def check_channels(settings: Settings) -> list[Finding]:
    """Return what is wrong with the channels of the offices, the gateways, and where messages may go."""
    from services.escalation.sending.channels import WayOut

    try:
        way_out = WayOut.of(settings)
    except ValueError as error:
        name, _, said = str(error).partition(": ")
        return [Finding("channels", name, said, CORRECT_IT)]
    errors = {f"TRUCBAN_{n.upper()}_CHANNEL": way_out.error(channel) for n, channel in _channels(settings).items()}
    errors |= way_out.gateway_errors
    return [Finding("channels", name, error, CORRECT_IT) for name, error in errors.items() if error is not None]


def check_destinations(settings: Settings) -> list[Finding]:
    """Return what reaches nobody in a city: an office whose channel is a file, links that lead to this machine,
    no telephone of the desk."""
    found: list[Finding] = []
    for name in OFFICES:
        if (channel := _channels(settings)[name]).startswith("outbox://"):
            way_out = "nobody is told: set it to the channel of the office, such as mailto:…"
            found.append(Finding("channels", f"TRUCBAN_{name.upper()}_CHANNEL", f"{channel} is a file", way_out))
    if _is_this_machine(urlsplit(settings.public_url).hostname or ""):
        way_out = "no telephone reaches it: set it to the address at which people reach this system"
        value = f"links lead to {_shown_address(settings.public_url)}"
        found.append(Finding("links", "TRUCBAN_PUBLIC_URL", value, way_out))
    if settings.desk_telephone is None:
        way_out = "nobody can call the desk from a notice: set it to the number of the desk"
        found.append(Finding("links", "TRUCBAN_DESK_TELEPHONE", "is not set", way_out))
    return found


def check_names(given: Iterable[str] | None = None) -> list[Finding]:
    """Return the names of settings that are not known. `given`: names; None: of the environment and of `.env`."""
    names = given_names() if given is None else given
    found: list[Finding] = []
    for name in sorted({name.upper() for name in names} - KNOWN):
        if name.startswith("TRUCBAN_"):
            bare = name.removeprefix("TRUCBAN_")
            near = get_close_matches(bare, sorted(each.removeprefix("TRUCBAN_") for each in KNOWN), n=1)
            meant = bare if bare in WITHOUT_PREFIX else f"TRUCBAN_{near[0]}" if near else None
            way_out = f"is it {meant}?" if meant else "unset it"
            found.append(Finding("settings", name, "is no setting, and has no effect", way_out))
    return found


def given_names(environment: Mapping[str, str] = os.environ) -> list[str]:
    return [*environment, *DotEnvSettingsSource(Settings, env_file=".env").env_vars]


def check_clock(settings: Settings) -> list[Finding]:
    if settings.clock is None:
        return []
    value = f"{settings.clock.isoformat()} instead of the real time"
    return [Finding("clock", "TRUCBAN_CLOCK", value, "unset it in a city")]


def _channels(settings: Settings) -> dict[str, str]:
    return {
        "desk": settings.desk_channel,
        "leadership": settings.leadership_channel,
        "log": settings.log_channel,
    }


def _shown_address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
