"""The page behind a signed link: shows one notice, and acknowledges it when its button is pressed.

Looking does nothing, since mail and chat programs look at links by themselves. Without a valid link nothing is told.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import AwareDatetime

from services.escalation.api.common import Wired
from services.escalation.application.acknowledge import acknowledge_by_link
from services.escalation.application.channel_tests import confirm
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK, LEADERSHIP, OFFICES
from services.escalation.domain.notices.channel_test import CHANNEL_TEST
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.signed_link import ExpiredLinkError, ForgedLinkError, LinkSigner, bearer
from services.escalation.store import signed_links as store
from services.escalation.store.signed_links import LinkedNotice, OfficeRefusal
from shared.clock import local
from shared.http import errors
from shared.http.fields import Answer
from shared.http.html_page import HtmlPage, load, wants_json
from shared.http.identity import TokenVerifier
from shared.http.openapi import PROBLEM_CONTENT, Responses
from shared.http.problem import Problem

router = APIRouter()
PAGES = Path(__file__).parents[1] / "pages"


@dataclass(frozen=True)
class Words:
    vi: str
    en: str


OFFICE_NAMES = {
    DESK: Words("Trực ban thành phố", "the city duty desk"),
    LEADERSHIP: Words("Lãnh đạo thành phố", "the city leadership"),
}


REFUSED_AT_OFFICE: Mapping[OfficeRefusal, Words] = {
    "off_duty": Words(
        "Ca trực của quý vị đã hết: người đang trực xác nhận thay.",
        "Your turn of duty is over: whoever is on duty now acknowledges.",
    ),
    "named": Words(
        "Quyết định về vụ việc này nêu tên quý vị: người khác phải xác nhận thay.",
        "The decision on this incident names you: somebody else there has to acknowledge.",
    ),
}


@dataclass(frozen=True)
class Telephone:
    shown: str

    @property
    def dialled(self) -> str:
        """As a `tel:` link takes it (RFC 3966)."""
        return re.sub(r"[^+0-9]", "", self.shown)


@dataclass(frozen=True)
class Refusal(Words):
    """Why there is no notice to be shown, and what to do."""

    way_vi: str
    way_en: str
    status: int


UNKNOWN = Refusal(
    "Liên kết không dùng được",
    "This link does not work",
    "Hãy mở lại liên kết trong thông báo, chép đủ cả dòng; nếu vẫn không được, gọi trực ban thành phố.",
    "Open the link from the notice again, the whole of it; if it still fails, call the city duty desk.",
    404,
)
EXPIRED = Refusal(
    "Liên kết đã hết hạn",
    "This link has expired",
    "Hãy gọi trực ban thành phố.",
    "Please call the city duty desk.",
    410,
)
REVOKED = Refusal(
    "Liên kết đã bị thu hồi",
    "This link was revoked",
    "Hãy gọi trực ban thành phố.",
    "Please call the city duty desk.",
    410,
)
BUSY = Refusal(
    "Hệ thống chưa trả lời được",
    "The system cannot answer just now",
    "Hãy thử lại sau ít giây; nếu gấp, gọi trực ban thành phố.",
    "Try again in a few seconds; if it is urgent, call the city duty desk.",
    503,
)


class LinkAnswer(Answer):
    """The notice behind the link, and whether it is acknowledged."""

    notice_id: str
    incident: str | None
    """Null for a test of a contact's channel."""
    incident_number: str | None
    """The incident's short number, which people say over the telephone."""
    recipient: str
    title: str
    body: str
    exercise: bool
    due_at: AwareDatetime | None
    """To be acknowledged by then."""
    acknowledged_at: AwareDatetime | None
    acknowledged_by: str | None
    holds: bool
    """Whether it is still true. If not, nothing is to be acknowledged here."""
    acts: bool
    """Whether this link acknowledges it, or did so. At an office it does so for whoever got it while they are on duty
    and the incident's decision does not name them."""
    now: str | None
    """Where it does not hold: what its recipient was told instead, if anything."""


_MADE = ("incident", "incident_number", "now")


@dataclass(frozen=True)
class Asked:
    """One request by link: `e` until when it is valid, `s` its signature."""

    request: Request
    escalation: Escalation
    notice_id: str
    e: str
    s: str

    @property
    def wants_json(self) -> bool:
        return wants_json(self.request)


async def _asked(
    request: Request,
    escalation: Wired,
    notice_id: str,
    e: Annotated[str, Query(description="valid until, Unix seconds")] = "",
    s: Annotated[str, Query(description="signature")] = "",
) -> Asked:
    return Asked(request, escalation, notice_id, e, s)


Link = Annotated[Asked, Depends(_asked)]
_PAGE = {"text/html": {"schema": {"type": "string"}}}
_ANSWERS: Responses = {
    200: {
        "description": "the notice; JSON where only that is asked for",
        "content": {"application/json": {"schema": LinkAnswer.model_json_schema()}},
    },
    **{
        status: {"description": f"{text}; a problem where only JSON is asked for", "content": _PAGE | PROBLEM_CONTENT}
        for status, text in {
            404: "no link of ours",
            410: "an expired or revoked one",
            503: "the database does not answer",
        }.items()
    },
}


@router.get("/links/{notice_id}", response_class=HTMLResponse, responses=_ANSWERS)
async def get_link(asked: Link) -> Response:
    """The notice of a signed link. Changes nothing."""
    return await _answer(asked, _valid)


@router.post("/links/{notice_id}", response_class=HTMLResponse, responses=_ANSWERS)
async def post_link_acknowledgement(asked: Link) -> Response:
    """Acknowledge the notice, or confirm a test message, as its recipient; a second time it is as it was.

    What no longer holds is not acknowledged.
    """

    async def work(asked: Asked) -> LinkedNotice | Refusal:
        found = await _valid(asked)
        if isinstance(found, LinkedNotice) and found.acknowledged_at is None and found.acts:
            if found.purpose == CHANNEL_TEST:
                await confirm(asked.escalation, found.notice_id, by=found.recipient)
            else:
                await acknowledge_by_link(asked.escalation, found.notice_id, found.recipient, found.person)
            found = await _valid(asked)
        return found

    return await _answer(asked, work)


async def _valid(asked: Asked) -> LinkedNotice | Refusal:
    now = asked.escalation.clock.now()
    async with asked.escalation.database.connect() as connection:
        found = await store.linked(connection, asked.notice_id)
        is_of_office = found is not None and found.recipient in OFFICES
        persons = await store.on_duty_then(connection, found) if found and is_of_office else []
        try:
            person = _whose(asked, found.recipient if found else "", [None, *persons], now)
        except ForgedLinkError:
            return UNKNOWN
        except ExpiredLinkError:
            return EXPIRED
        if found is not None and _is_revoked(asked, found, person):
            return REVOKED
        if found is None or found.incident_id is None or person is None:
            return found or UNKNOWN
        refused = await store.refusal(connection, found.incident_id, found.recipient, person, now)
    return replace(found, person=person, refused=None if found.acknowledged_at else refused)


def _whose(asked: Asked, recipient: str, persons: Sequence[str | None], now: datetime) -> str | None:
    """Return for which of these persons the link was made. Raises ForgedLinkError if for none, or ExpiredLinkError."""
    signer: LinkSigner = asked.request.app.state.link_signer
    for person in persons:
        try:
            signer.check(asked.notice_id, bearer(recipient, person), asked.e, asked.s, now)
        except ForgedLinkError:
            continue
        return person
    raise ForgedLinkError


def _is_revoked(asked: Asked, notice: LinkedNotice, person: str | None) -> bool:
    """`person`: for whom the link of an office was made."""
    tokens: TokenVerifier = asked.request.app.state.verifier
    holders = [notice.recipient] if person is None else [notice.recipient, person]
    return any(tokens.refuses_link(notice.notice_id, holder, notice.issued_at) for holder in holders)


async def _answer(asked: Asked, work: Callable[[Asked], Awaitable[LinkedNotice | Refusal]]) -> Response:
    try:
        found = await work(asked)
        response = await _shown(asked, found) if isinstance(found, LinkedNotice) else _refused(asked, found)
    except errors.OUTAGES as error:
        if errors.outage_of(error) is None:
            raise
        response = _refused(asked, BUSY)
        response.headers["retry-after"] = str(errors.RETRY_AFTER_SECONDS)
    response.headers.update(_page().headers)
    return response


async def _shown(asked: Asked, notice: LinkedNotice) -> Response:
    number = number_of(notice.incident_id) if notice.incident_id else None
    if asked.wants_json:
        shown = LinkAnswer(
            incident=notice.incident_id,
            incident_number=number,
            now=notice.newest.body if notice.newest and not notice.holds else None,
            **{name: getattr(notice, name) for name in LinkAnswer.model_fields if name not in _MADE},
        )
        return JSONResponse(shown.model_dump(mode="json"))
    told = {notice.recipient, notice.acknowledged_by or notice.recipient}
    async with asked.escalation.database.connect() as connection:
        names = await store.names(connection, told)

    def called(who: str) -> Words:
        return OFFICE_NAMES.get(who) or Words(names.get(who, who), names.get(who, who))

    now = asked.escalation.clock.now()
    is_test = notice.purpose == CHANNEL_TEST
    return _page().response(
        200,
        said=None,
        notice=notice,
        number=number,
        asks=notice.acts and not is_test,
        refused=REFUSED_AT_OFFICE[notice.refused] if notice.refused else None,
        telephone=None if notice.recipient == DESK else _telephone(asked),
        lines=_lines(notice.body),
        now=_lines(notice.newest.body) if notice.newest else [],
        recipient=called(notice.recipient),
        by=called(notice.acknowledged_by or notice.recipient),
        due_at=_time(notice.due_at),
        acknowledged_at=_time(notice.acknowledged_at),
        late=notice.due_at is not None and now > notice.due_at,
        is_test=is_test,
    )


def _lines(body: str) -> list[str]:
    return [line for line in body.splitlines() if line]


def _refused(asked: Asked, refusal: Refusal) -> Response:
    if asked.wants_json:
        return errors.response(Problem(refusal.status, f"{refusal.en}. {refusal.way_en}"))
    return _page().response(refusal.status, said=refusal, telephone=_telephone(asked))


def _telephone(asked: Asked) -> Telephone | None:
    number: str | None = asked.request.app.state.desk_telephone
    return Telephone(number) if number else None


def _time(at: datetime | None) -> str | None:
    return f"{local(at):%H:%M %d/%m/%Y}" if at else None


@cache
def _page() -> HtmlPage:
    return load(PAGES, "link", "form-action 'self'")
