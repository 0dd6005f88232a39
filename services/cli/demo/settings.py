"""The settings that the sample is played with."""

from pathlib import Path

from shared.settings import Settings

_NOT_OF_THE_CITY = (
    "keys",
    "clock",
    "partitions",
    "desk_channel",
    "leadership_channel",
    "log_channel",
    "channel_hosts",
    "channel_schemes",
    "mail_gateway",
    "sms_gateway",
    "desk_telephone",
    "heartbeat_url",
    "public_url",
    "ledger_origin",
)


def sample_settings(settings: Settings, folder: Path) -> Settings:
    """`settings` with the sample's own data folder, and the defaults for all that concerns the city.

    So the sample tells nobody real and signs with no real key, whatever is configured.
    """
    defaults = {name: Settings.model_fields[name].default for name in _NOT_OF_THE_CITY}
    return settings.model_copy(update=defaults | {"data": folder})
