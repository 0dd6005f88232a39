"""Signed links: only ours, only for their notice and recipient, only until they expire."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.notices.signed_link import VALID_FOR, ExpiredLinkError, ForgedLinkError, LinkSigner
from tests.support import NIGHT

SECRET = b"\x5a" * 32
NOTICE = "01860000-0000-7000-8000-000000000001"
HOLDER = "mau-14776-chu-tich"
EXPIRES = NIGHT + VALID_FOR
LINKS = LinkSigner(SECRET, "https://trucban.thanhhoa.example/")


def parts(url: str) -> tuple[str, str, str]:
    """Notice id, `e` and `s`, as a web server finds them."""
    found = urlsplit(url)
    query = parse_qs(found.query)
    return found.path.rpartition("/")[2], query["e"][0], query["s"][0]


def test_a_link_is_valid_until_it_expires_and_not_a_second_longer() -> None:
    notice, e, s = parts(LINKS.url(NOTICE, HOLDER, EXPIRES))
    LINKS.check(notice, HOLDER, e, s, NIGHT)
    LINKS.check(notice, HOLDER, e, s, EXPIRES - timedelta(seconds=1))
    with pytest.raises(ExpiredLinkError):
        LINKS.check(notice, HOLDER, e, s, EXPIRES)


def test_a_notice_has_one_link_however_often_it_is_sent() -> None:
    again = LinkSigner(SECRET, "https://trucban.thanhhoa.example")
    assert LINKS.url(NOTICE, HOLDER, EXPIRES) == again.url(NOTICE, HOLDER, EXPIRES)


def test_a_link_fits_into_a_text_message() -> None:
    url = LINKS.url(NOTICE, HOLDER, EXPIRES)
    assert url.startswith(f"https://trucban.thanhhoa.example/escalation/v1/links/{NOTICE}?e=")
    assert len(url) <= 160
    assert url.isascii()


def test_a_link_tells_neither_its_recipient_nor_its_signature_in_the_path() -> None:
    url = LINKS.url(NOTICE, HOLDER, EXPIRES)
    _, _, s = parts(url)
    assert HOLDER not in url
    assert s not in urlsplit(url).path


@pytest.mark.parametrize(
    ("notice", "recipient", "later", "secret"),
    [
        ("01860000-0000-7000-8000-000000000002", HOLDER, 0, SECRET),
        (NOTICE, "mau-14776-bi-thu", 0, SECRET),
        (NOTICE, HOLDER, 3600, SECRET),
        (NOTICE, HOLDER, 0, b"\xa5" * 32),
    ],
    ids=["another notice", "another recipient", "a later expiry", "another installation's secret"],
)
def test_a_link_is_worth_nothing_for(notice: str, recipient: str, later: int, secret: bytes) -> None:
    _, e, s = parts(LINKS.url(NOTICE, HOLDER, EXPIRES))
    with pytest.raises(ForgedLinkError):
        LinkSigner(secret, "").check(notice, recipient, str(int(e) + later), s, NIGHT)


@given(e=st.text(max_size=12), s=st.text(max_size=24))
def test_whatever_else_is_in_the_query_is_a_forgery_and_no_error_of_ours(e: str, s: str) -> None:
    with pytest.raises(ForgedLinkError):
        LINKS.check(NOTICE, HOLDER, e, s, NIGHT)


@given(st.data())
def test_no_character_of_the_signature_can_be_changed(data: st.DataObject) -> None:
    """Nor can one be left out or added: base64 has several spellings of the same bytes, and one is ours."""
    notice, e, s = parts(LINKS.url(NOTICE, HOLDER, EXPIRES))
    at = data.draw(st.integers(0, len(s)))
    new = data.draw(st.sampled_from(["", "A", "-", "_", "=", "ạ", " "]))
    changed = s[:at] + new + s[at + data.draw(st.integers(0, 1)) :]
    if changed == s:
        return
    with pytest.raises(ForgedLinkError):
        LINKS.check(notice, HOLDER, e, changed, NIGHT)


@given(e=st.sampled_from(["+{}", " {}", "0{}", "{}.0", "{}_0", "{}\n"]))
def test_the_expiry_is_taken_in_the_one_spelling_that_was_signed(e: str) -> None:
    notice, signed, s = parts(LINKS.url(NOTICE, HOLDER, EXPIRES))
    with pytest.raises(ForgedLinkError):
        LINKS.check(notice, HOLDER, e.format(signed), s, NIGHT)
