"""The sample night is invented: it must reach nobody real, whatever the city has configured."""

from pathlib import Path

from services.cli.demo.settings import sample_settings
from shared.settings import Settings


def test_the_sample_tells_nobody_real_and_signs_with_no_key_of_the_city() -> None:
    city = Settings(
        data=Path("var"),
        keys=Path("/etc/trucban/keys"),
        desk_channel="mailto://truc-ban.example",
        log_channel="json://log.example",
        desk_telephone="0237 385 0000",
        ledger_origin="thanh-pho.example/ledger",
        partitions=3,
        mail_gateway="mailto://mail.example?from=truc-ban@example.vn",
        sms_gateway="d7sms://token@{to}",
        channel_hosts="10.0.0.0/8",
    )
    sample = sample_settings(city, Path("var/sample"))
    assert sample.keys_dir == Path("var/sample/keys")
    assert (sample.desk_channel, sample.log_channel) == ("outbox://desk", "outbox://log")
    assert sample.desk_telephone is None
    assert sample.ledger_origin != city.ledger_origin
    assert sample.partitions == 1
    assert (sample.mail_gateway, sample.sms_gateway, sample.channel_hosts) == (None, None, "")
