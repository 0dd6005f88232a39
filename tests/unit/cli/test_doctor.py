"""What is wrong with an installation: settings, files, and how it is said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.cli.doctor import check_token, files
from services.cli.doctor.files import check_disk, check_keys
from services.cli.doctor.servers import check_clocks, check_coverage, check_version
from services.cli.doctor.settings import (
    check_channels,
    check_clock,
    check_destinations,
    check_names,
    refuse_wrong_channels,
    where_it_goes,
)
from services.cli.errors import UsageError
from services.escalation.domain.directory.coverage import coverage_of
from services.escalation.domain.directory.model import Unit, key_of
from shared.http.identity import Principal, issuer
from shared.settings import Settings
from tests.support import BA_DINH, CHAIR, DONG_THO, NIGHT, SECRETARY, tenure

MAIL = "mailto://ten:mat-khau@mail.thanhhoa.vn?from=truc@thanhhoa.vn&to=rieng@thanhhoa.vn"

PLAIN = {"desk_channel": MAIL, "leadership_channel": MAIL, "desk_telephone": "0237 385 0000"}


def settings(**changes: object) -> Settings:
    return Settings.model_validate(PLAIN | changes)


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("TRUCBAN_DESK_CHANEL", "is it TRUCBAN_DESK_CHANNEL?"),
        ("trucban_public_ulr", "is it TRUCBAN_PUBLIC_URL?"),
        ("TRUCBAN_DATABASE_URL", "is it DATABASE_URL?"),
        ("TRUCBAN_XYZ", "unset it"),
    ],
)
def test_a_name_that_is_no_setting_is_named_with_the_nearest_that_is(name: str, way_out: str) -> None:
    (found,) = check_names([name, "TRUCBAN_DATA", "TRUCBAN_TOKEN", "PATH"])
    assert (found.what, found.way_out) == (name.upper(), way_out)


@pytest.mark.parametrize("channel", ["duty@city.vn", "mailto://mat-khau", "tgram://1/2", "json://a b"])
@pytest.mark.parametrize("office", ["desk", "leadership", "log"])
def test_a_channel_of_an_office_that_cannot_work_stops_the_start(office: str, channel: str) -> None:
    given = settings(**{f"{office}_channel": channel})
    assert [found.what for found in check_channels(given)] == [f"TRUCBAN_{office.upper()}_CHANNEL"]
    with pytest.raises(UsageError) as caught:
        refuse_wrong_channels(given)
    assert "duty" not in str(caught.value)
    assert "mat-khau" not in str(caught.value)


def test_where_it_goes_is_shown_without_secrets_and_addresses() -> None:
    shown = where_it_goes(settings(public_url="https://ten:mat-khau@truc-ban.thanhhoa.vn:8443/x"))
    assert shown == {
        "desk": "mailto://…@thanhhoa.vn",
        "leadership": "mailto://…@thanhhoa.vn",
        "links": "https://truc-ban.thanhhoa.vn:8443/x",
    }


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "https://[::1]/", "http://0.0.0.0:80"])
def test_links_that_lead_to_this_machine_are_found(url: str) -> None:
    assert [found.what for found in check_destinations(settings(public_url=url))] == ["TRUCBAN_PUBLIC_URL"]
    assert check_destinations(settings(public_url="https://truc-ban.thanhhoa.vn")) == []


def test_a_desk_that_is_a_file_is_found() -> None:
    found = check_destinations(settings(desk_channel="outbox://desk", public_url="https://truc-ban.thanhhoa.vn"))
    told = "nobody is told: set it to the channel of the office, such as mailto:…"
    assert [str(each) for each in found] == [f"TRUCBAN_DESK_CHANNEL: outbox://desk is a file: {told}"]


def test_a_desk_without_a_telephone_is_found() -> None:
    found = check_destinations(settings(desk_telephone=None, public_url="https://truc-ban.thanhhoa.vn"))
    told = "nobody can call the desk from a notice: set it to the number of the desk"
    assert [str(each) for each in found] == [f"TRUCBAN_DESK_TELEPHONE: is not set: {told}"]


@pytest.mark.parametrize("telephone", ["1022", "0237 385 0000", "(0237) 385-0000", "+84 237 385 0000", "0237.385.0000"])
def test_a_telephone_is_taken_as_people_write_it(telephone: str) -> None:
    assert settings(desk_telephone=telephone).desk_telephone == telephone


def test_a_clock_that_is_not_the_real_one_is_found() -> None:
    assert check_clock(settings()) == []
    (found,) = check_clock(settings(clock="2023-01-21T23:50:00+07:00"))
    assert found.what == "TRUCBAN_CLOCK"


def test_a_key_that_others_may_read_is_found(tmp_path: Path) -> None:
    for name, mode in (("ledger.pem", 0o600), ("link.key", 0o640), ("token.pub", 0o644)):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(mode)
    assert [(f.value, f.way_out) for f in check_keys(tmp_path)] == [
        ("has mode 0640, so others may read it", f"chmod 600 {tmp_path / 'link.key'}")
    ]
    assert check_keys(tmp_path / "nothing") == []


def test_a_disk_that_is_nearly_full_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LEAST_FREE", 0)
    assert check_disk(tmp_path / "not" / "there") == []
    monkeypatch.setattr(files, "LEAST_FREE", 2**80)
    assert [found.check for found in check_disk(tmp_path / "not" / "there")] == ["disk"]


def test_clocks_that_are_apart_are_found() -> None:
    now = datetime.now(UTC)
    assert check_clocks(now, now + timedelta(seconds=2)) == []
    for theirs in (now + timedelta(seconds=75), now - timedelta(seconds=75)):
        (found,) = check_clocks(now, theirs)
        assert found.value == "75 s apart from the database's"


def test_a_token_of_another_system_is_found(tmp_path: Path) -> None:
    here, there = (settings(data=tmp_path / name) for name in ("here", "there"))
    for each in (here, there):
        each.keys_dir.mkdir(parents=True)
    token = issuer(here.keys_dir).issue(Principal("truc-ban", "desk"), days=1)
    issuer(there.keys_dir)
    assert check_token(here, {"TRUCBAN_TOKEN": token}) == []
    assert check_token(there, {}) == []
    (found,) = check_token(there, {"TRUCBAN_TOKEN": token})
    assert token not in str(found)


def test_what_the_directory_lacks_is_one_finding_a_cause() -> None:
    units = {key_of(ref): Unit(ref, "phường") for ref in (BA_DINH, DONG_THO)}
    held = [tenure(SECRETARY, "mau-1"), tenure(CHAIR, "mau-2")]
    lacks = coverage_of(units, (SECRETARY, CHAIR), held, (), {"mau-1", "mau-khac"}, NIGHT)
    assert lacks.wards_without_holder == 1
    assert [f"{found.what}: {found.value}" for found in check_coverage(lacks)] == [
        "post chair: vacant in 14758 Đông Thọ",
        "post party_secretary: vacant in 14758 Đông Thọ",
        "people in office: 1 have no channel: mau-2",
        "people with a channel: 1 never had a post or a turn: mau-khac",
    ]


def test_who_has_left_office_and_still_has_a_channel_is_no_finding() -> None:
    units = {key_of(BA_DINH): Unit(BA_DINH, "phường")}
    held = [tenure(SECRETARY, "mau-1"), tenure(CHAIR, "mau-cu", end="2023-01-10 00:00"), tenure(CHAIR, "mau-2")]
    assert coverage_of(units, (SECRETARY, CHAIR), held, (), {"mau-1", "mau-2", "mau-cu"}, NIGHT).idle == ()


def test_a_server_that_is_older_than_what_is_tested_is_found() -> None:
    for version in ("6.2.14", "6.2", "7.0.15"):
        assert check_version("broker", "Redis", version, (6, 2)) == []
    (found,) = check_version("broker", "Redis", "6.0.16", (6, 2))
    assert found.value == "6.0.16 is older than 6.2, the oldest that is tested"
