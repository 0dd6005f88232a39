"""The signed link in a notice: seeing it changes nothing, its button acknowledges once, others learn nothing."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy.exc import OperationalError

from services.escalation.api import links as routes
from services.escalation.api.rights import RIGHTS
from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.signed_link import VALID_FOR, LinkSigner
from shared.events import Harm, Who
from shared.http.identity import Principal, verifier
from shared.http.web import service_app
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import notices_say
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import DueTime, Notice, Tenure
from tests.support import CHAIR, NGOC_TRAO, NIGHT, RULEBOOK, received

CHAIR_OF_BA_DINH = "mau-14776-chu-tich"
BASE = "http://trucban.example"
LINKS = LinkSigner(b"\x5a" * 32, BASE)
JSON = {"accept": "application/json"}


@dataclass
class Post:
    """What a post-holder has in hand: a notice, its link, and a browser."""

    city: City
    browser: AsyncClient
    app: FastAPI
    notice: Notice

    def link(self, recipient: str | None = None, expires: timedelta = VALID_FOR) -> str:
        return LINKS.url(self.notice.notice_id, recipient or self.notice.recipient, NIGHT + expires)

    async def acknowledgements(self) -> list[Any]:
        return [e for e in await self.city.events() if e.type.endswith("acknowledgement.recorded.v1")]


@pytest.fixture
async def post(city: City, tmp_path: Path) -> AsyncGenerator[Post]:
    """Firecrackers in Ba Đình; the chair has been told, with fifteen minutes to acknowledge."""
    await route_reports(city.escalation, [received(kind="officer", subject="cb-bi-mat", harm=Harm(deaths=1))])
    notice = await only(city, Notice, recipient=CHAIR_OF_BA_DINH, purpose="accountable")
    app = service_app("escalation", verifier(tmp_path), routes.router, RIGHTS)
    app.state.escalation, app.state.link_signer = city.escalation, LINKS
    app.state.desk_telephone = "(0237) 385 0000"
    root = FastAPI()
    root.mount("/escalation", app)
    async with AsyncClient(transport=ASGITransport(root), base_url=BASE) as browser:
        yield Post(city, browser, app, notice)


def text_of(page: Response) -> str:
    body = page.text.partition("</style>")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


async def test_the_page_shows_the_notice_its_deadline_and_one_button(post: Post) -> None:
    page = await post.browser.get(post.link())
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    shown = text_of(page)
    assert post.notice.title in shown
    for line in post.notice.body.splitlines():
        assert line in shown
    assert "Đề nghị xác nhận trước 00:05 22/01/2023" in shown
    assert "Please acknowledge by then" in shown
    assert shown.count("00:05") == 1, "the due time is said once"
    assert page.text.count("<button") == page.text.count("<form") == 1
    assert '<html lang="vi">' in page.text
    assert 'lang="en"' in page.text
    assert "bi-mat" not in page.text, "who reported it is not for those reported on"


async def test_on_a_small_telephone_the_button_comes_before_all_that_may_be_long(post: Post) -> None:
    number = number_of(post.notice.incident_id)
    shown = text_of(await post.browser.get(post.link()))
    order = [
        post.notice.title,
        f"Số vụ việc {number}",
        "Đề nghị xác nhận trước",
        "Tôi đã nhận được thông báo",
        "113 Công an",
        "Gọi trực ban",
        "Sau khi xác nhận",
        *post.notice.body.splitlines(),
        RULEBOOK.rulebook.citation.vi,
        RULEBOOK.rulebook.citation.en,
    ]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)
    for once in (number, RULEBOOK.rulebook.citation.vi, RULEBOOK.rulebook.version):
        assert shown.count(once) == 1


async def test_it_can_be_called_from_the_police_the_fire_brigade_the_ambulance_and_the_desk(post: Post) -> None:
    page = await post.browser.get(post.link())
    assert re.findall(r'href="([^"]*)"', page.text) == ["tel:113", "tel:114", "tel:115", "tel:02373850000"]
    shown = text_of(page)
    for text in ("113 Công an Police", "114 Cứu hỏa, cứu nạn Fire, rescue", "115 Cấp cứu Ambulance"):
        assert text in shown
    assert "Call the duty desk (0237) 385 0000" in shown


async def test_without_a_telephone_of_the_desk_none_is_shown(post: Post) -> None:
    post.app.state.desk_telephone = None
    assert "Gọi trực ban" not in text_of(await post.browser.get(post.link()))


async def test_an_expired_link_says_which_number_to_call(post: Post) -> None:
    post.city.clock.set(NIGHT + VALID_FOR)
    page = await post.browser.get(post.link())
    assert re.findall(r'href="([^"]*)"', page.text) == ["tel:02373850000"]


async def test_whoever_has_acknowledged_is_told_what_to_do_next_without_a_word_of_guilt(post: Post) -> None:
    shown = text_of(await post.browser.post(post.link()))
    done, steps, text = (shown.index(t) for t in ("Đã xác nhận lúc", "Việc cần làm tiếp", "Nội dung thông báo"))
    assert done < steps < text
    for step in ("việc gì đã xảy ra", "Trực ban xác minh", "chuyển ngay lên lãnh đạo", "ai thay", "đề nghị kết thúc"):
        assert step in shown[steps:text]
    for word in ("vi phạm", "có tội", "kỷ luật", "guilty", "liable", "fault"):
        assert word not in shown.casefold()


@pytest.mark.parametrize(
    ("office", "step"),
    [("desk", "Gọi cho người giữ chức vụ chưa xác nhận."), ("leadership", "Cho ý kiến chỉ đạo.")],
)
async def test_an_office_is_told_what_an_office_does(post: Post, office: str, step: str) -> None:
    for hours in (1, 2):
        post.city.clock.set(NIGHT + timedelta(hours=hours))
        await fire_due_timers(post.city.escalation)
    notice = (await stored(post.city, Notice, recipient=office))[0]
    shown = text_of(await post.browser.get(LINKS.url(notice.notice_id, office, notice.issued_at + VALID_FOR)))
    assert step in shown
    assert "Hỏi ngay người có mặt tại chỗ" not in shown
    assert ("Gọi trực ban Call the duty desk" in shown) == (office != "desk")


async def test_an_exercise_shows_its_mark_first_and_no_number_that_somebody_might_call(post: Post) -> None:
    await route_reports(post.city.escalation, [received(unit=NGOC_TRAO, exercise=True)])
    notice = await only(post.city, Notice, exercise=True, recipient="mau-14779-chu-tich")
    page = await post.browser.get(LINKS.url(notice.notice_id, notice.recipient, notice.issued_at + VALID_FOR))
    shown = text_of(page)
    assert shown.index("DIỄN TẬP Exercise DIỄN TẬP Nổ pháo") < shown.index("Tôi đã nhận được")
    assert "tel:113" not in page.text


async def test_looking_at_it_acknowledges_nothing_since_mail_programs_look_too(post: Post) -> None:
    for _ in range(3):
        await post.browser.get(post.link())
        await post.browser.head(post.link())
    assert await post.acknowledgements() == []
    assert {n.acknowledged_at for n in await stored(post.city, Notice)} == {None}


async def test_the_button_acknowledges_as_the_notice_s_recipient(post: Post) -> None:
    page = await post.browser.post(post.link())
    assert page.status_code == 200
    (event,) = await post.acknowledgements()
    assert (event.data.holder, event.data.posts, event.data.in_time) == (CHAIR_OF_BA_DINH, (CHAIR,), True)
    assert event.data.who == Who(subject=CHAIR_OF_BA_DINH, role="official", means="link")
    (name,) = {t.holder_name for t in await stored(post.city, Tenure, holder_id=CHAIR_OF_BA_DINH)}
    assert f"Đã xác nhận lúc 23:50 21/01/2023, bởi {name}." in text_of(page)
    assert "<button" not in page.text
    assert not await stored(post.city, DueTime, state="pending", notice_id=post.notice.notice_id)


async def test_it_works_once_and_afterwards_says_who_acknowledged_and_when(post: Post) -> None:
    first = await post.browser.post(post.link())
    post.city.clock.set(NIGHT + timedelta(minutes=9))
    again, seen = await post.browser.post(post.link()), await post.browser.get(post.link())
    assert [again.status_code, seen.status_code] == [200, 200]
    assert text_of(again) == text_of(seen) == text_of(first)
    assert len(await post.acknowledgements()) == 1


async def test_pressed_twice_at_once_it_is_one_acknowledgement(post: Post) -> None:
    pages = await asyncio.gather(*(post.browser.post(post.link()) for _ in range(8)))
    assert {p.status_code for p in pages} == {200}
    assert len(await post.acknowledgements()) == 1


async def test_what_was_acknowledged_otherwise_is_shown_so_and_not_acknowledged_again(post: Post) -> None:
    holder = Principal(CHAIR_OF_BA_DINH, "official", "14776", CHAIR)
    await acknowledge(post.city.escalation, post.notice.incident_id, holder)
    page = await post.browser.post(post.link())
    assert "Đã xác nhận" in text_of(page)
    assert len(await post.acknowledgements()) == 1


async def test_after_the_deadline_the_page_says_so_and_still_takes_the_acknowledgement(post: Post) -> None:
    post.city.clock.set(NIGHT + timedelta(hours=2))
    assert "Đã quá hạn xác nhận" in text_of(await post.browser.get(post.link()))
    await post.browser.post(post.link())
    (event,) = await post.acknowledgements()
    assert event.data.in_time is False


async def test_a_notice_to_an_office_is_acknowledged_in_the_name_of_the_office(post: Post) -> None:
    await route_reports(post.city.escalation, [received("FIRE", occurred_at=NIGHT - timedelta(hours=3))])
    notice = await only(post.city, Notice, recipient="desk")
    page = await post.browser.post(LINKS.url(notice.notice_id, "desk", NIGHT + VALID_FOR))
    assert "bởi Trực ban thành phố." in text_of(page)
    assert (await post.acknowledgements())[-1].data.holder == "desk"


# --- links that are not good ---


async def refused(post: Post, url: str, status: int) -> str:
    """What the page says to somebody without a good link; that it tells nothing of any incident."""
    pages = [await post.browser.get(url), await post.browser.post(url)]
    assert {p.status_code for p in pages} == {status}
    assert {p.headers["cache-control"] for p in pages} == {"no-store"}
    for page in pages:
        for secret in (post.notice.title, post.notice.incident_id, CHAIR_OF_BA_DINH, "Ba Đình", "<form"):
            assert secret not in page.text
    assert await post.acknowledgements() == []
    assert text_of(pages[0]) == text_of(pages[1])
    return text_of(pages[0])


async def test_a_forged_link_and_one_of_no_notice_are_told_the_same(post: Post) -> None:
    good = post.link()
    unknown = LINKS.url("01860000-0000-7000-8000-ffffffffffff", CHAIR_OF_BA_DINH, NIGHT + VALID_FOR)
    to_nobody = LINKS.url("01860000-0000-7000-8000-ffffffffffff", "", NIGHT + VALID_FOR)
    said = {
        await refused(post, url, 404)
        for url in (
            good[:-1] + ("A" if good[-1] != "A" else "B"),
            good.partition("?")[0],
            good.partition("&")[0],
            good.replace("e=", "e=9"),
            post.link(recipient="mau-14776-bi-thu"),
            unknown,
            to_nobody,
            f"{BASE}/escalation/v1/links/%ff?e=%ff&s=%ff",
        )
    }
    assert len(said) == 1
    assert "This link does not work" in said.pop()


async def test_an_expired_link_is_gone(post: Post) -> None:
    post.city.clock.set(NIGHT + VALID_FOR)
    assert "This link has expired" in await refused(post, post.link(), 410)


# --- how it travels ---


async def test_nothing_of_it_is_kept_framed_indexed_sent_on_or_loaded_from_elsewhere(post: Post) -> None:
    for page in (await post.browser.get(post.link()), await post.browser.get(f"{BASE}/escalation/v1/links/x")):
        headers = page.headers
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-robots-tag"] == "noindex"
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        style = page.text.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy["style-src"] == f"'sha256-{digest}'"
        assert "<script" not in page.text
        assert not re.search(r'(src|action)=|href="(?!tel:)|style="|url\(', page.text)


async def test_what_a_notice_says_is_text_and_never_markup(post: Post) -> None:
    await notices_say(post.city, '<b>&"', "<script>x</script>")
    page = await post.browser.get(post.link())
    assert "&lt;b&gt;&amp;" in page.text
    assert "<script" not in page.text


async def test_a_program_that_asks_for_json_gets_it(post: Post) -> None:
    seen = await post.browser.get(post.link(), headers=JSON)
    assert seen.json() == {
        "notice_id": post.notice.notice_id,
        "incident": post.notice.incident_id,
        "incident_number": number_of(post.notice.incident_id),
        "recipient": CHAIR_OF_BA_DINH,
        "title": post.notice.title,
        "body": post.notice.body,
        "exercise": False,
        "due_at": seen.json()["due_at"],
        "acknowledged_at": None,
        "acknowledged_by": None,
        "holds": True,
        "acts": True,
        "now": None,
    }
    done = await post.browser.post(post.link(), headers=JSON)
    assert (done.status_code, done.json()["acknowledged_by"]) == (200, CHAIR_OF_BA_DINH)
    forged = await post.browser.post(f"{BASE}/escalation/v1/links/x", headers=JSON)
    assert (forged.status_code, forged.headers["content-type"]) == (404, "application/problem+json")
    browsers = await post.browser.get(post.link(), headers={"accept": "text/html,application/json;q=0.9,*/*;q=0.8"})
    assert browsers.headers["content-type"].startswith("text/html")


async def test_while_the_database_is_away_the_page_says_when_to_try_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise OperationalError("SELECT", None, ConnectionRefusedError())

    monkeypatch.setattr(routes.store, "linked", away)
    page = await post.browser.post(post.link())
    assert (page.status_code, page.headers["retry-after"]) == (503, "5")
    assert "Try again" in text_of(page)


# --- what no longer holds ---


@pytest.mark.parametrize(
    ("holds", "says"),
    [
        ({"unit": (NGOC_TRAO.code, NGOC_TRAO.valid_from)}, "Không xảy ra tại đây"),
        ({"exercise": True}, "Đó là diễn tập"),
        ({"occurred_at": NIGHT - timedelta(minutes=5)}, "23:45 21/01/2023"),
    ],
    ids=["another ward", "an exercise", "another time"],
)
async def test_after_a_correction_the_page_shows_what_is_true_now_and_no_button(
    post: Post, holds: dict[str, Any], says: str
) -> None:
    desk = Principal("mau-truc-ban", "desk")
    await commands.correct(post.city.escalation, post.notice.incident_id, desk, "Đã kiểm tra", **holds)
    page = await post.browser.get(post.link())
    shown = text_of(page)
    assert "Thông báo này không còn hiệu lực" in shown
    assert shown.index(says) < shown.index("Nội dung trước đây") < shown.rindex("23:50 21/01/2023")
    assert "<button" not in page.text
    pressed = await post.browser.post(post.link())
    assert (pressed.status_code, await post.acknowledgements()) == (200, [])
    answer = (await post.browser.get(post.link(), headers=JSON)).json()
    assert (answer["holds"], says in answer["now"]) == (False, True)


async def test_a_dismissed_incident_is_shown_so_by_the_link_of_its_first_notice(post: Post) -> None:
    desk = Principal("mau-truc-ban", "desk")
    await commands.dismiss(post.city.escalation, post.notice.incident_id, desk, "Báo nhầm")
    page = await post.browser.get(post.link())
    assert "Thông báo trước không còn hiệu lực" in text_of(page)
    assert "<button" not in page.text


async def test_the_notice_that_holds_keeps_its_button_after_a_correction(post: Post) -> None:
    desk = Principal("mau-truc-ban", "desk")
    earlier = NIGHT - timedelta(minutes=5)
    await commands.correct(post.city.escalation, post.notice.incident_id, desk, "Đã kiểm tra", occurred_at=earlier)
    (_, newest) = await stored(post.city, Notice, recipient=CHAIR_OF_BA_DINH)
    link = LINKS.url(newest.notice_id, newest.recipient, NIGHT + VALID_FOR)
    page = await post.browser.get(link)
    assert page.text.count("<button") == 1
    await post.browser.post(link)
    assert len(await post.acknowledgements()) == 1
