"""What is wrong with the channels of people, as an installation is told."""

from services.cli.doctor.contacts import check_contacts
from services.escalation.sending.channels import WayOut

OLD = [("mau-1", "irc://u:mat-khau@host/kenh"), ("mau-2", "irc://u:mat-khau@host/kenh"), ("mau-3", "outbox://mau-3")]


def test_rows_that_are_older_than_the_rule_are_named_by_their_people_and_never_quoted() -> None:
    (found,) = check_contacts(OLD, WayOut().error, is_real=False)
    assert str(found).startswith("channels of mau-1, mau-2: irc: not a channel that messages may go to: use another")
    assert "mat-khau" not in str(found)


def test_a_file_is_no_channel_where_real_people_are_in_office() -> None:
    _, found = check_contacts(OLD, WayOut().error, is_real=True)
    assert str(found) == "channels of mau-3: outbox:// is a file: they are told nothing: record a channel"


def test_a_password_in_the_row_of_a_person_belongs_in_the_settings() -> None:
    rows = [(f"mau-{n}", f"mailto://ten:mat-khau@mail.vn?from=a@b.vn&to=rieng-{n}@b.vn") for n in range(7)]
    (found,) = check_contacts(rows, WayOut().error, is_real=True)
    assert str(found) == (
        "channels of mau-0, mau-1, mau-2, mau-3, mau-4 and 2 more: hold the password of a mail server:"
        " set TRUCBAN_MAIL_GATEWAY, and record mailto:ADDRESS"
    )
