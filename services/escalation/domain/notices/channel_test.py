"""A test of the contacts' channels (thử kênh liên lạc): who is tested, when, and what they are told. Pure."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, time

from pydantic import BaseModel, ConfigDict

from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.directory.model import Contact, Tenure, Unit, UnitKey, key_of, within
from services.escalation.domain.directory.model import known_at as known
from services.escalation.domain.directory.places import Place
from services.escalation.domain.notices.notification import rings_at
from services.escalation.domain.notices.wording import template
from services.escalation.domain.rules.rulebook import Post
from shared.clock import local
from shared.events import UnitRef

CHANNEL_TEST = "channel_test"
"""Purpose of the notices of a test."""
NIGHT = Contact("", time(22), time(6))
"""When no test rings, whatever a contact's own quiet hours are."""


class HeldPost(BaseModel):
    """A post that somebody answers for, as its holder or as the deputy."""

    model_config = ConfigDict(frozen=True)

    unit: UnitRef
    kind: str
    post: str


class Person(BaseModel):
    """Somebody in office, with all their posts."""

    model_config = ConfigDict(frozen=True)

    holder_id: str
    name: str
    posts: tuple[HeldPost, ...]


def in_office(
    units: Mapping[UnitKey, Unit], tenures: Collection[Tenure], now: datetime, place: Place | None
) -> list[Person]:
    """Return those who hold a post of a ward, or are deputy for its holder, now; each once, in order of their ids.

    `place`: only those of these wards.
    """
    known_at = known(tenures, now)
    of_person: dict[str, list[Tenure]] = {}
    for tenure in within(tenures, units):
        here = place is None or place.holds(*key_of(tenure.unit))
        if here and tenure.covers(now, known_at):
            of_person.setdefault(tenure.holder_id, []).append(tenure)
    return [_person(theirs, units) for _, theirs in sorted(of_person.items())]


def _person(theirs: Iterable[Tenure], units: Mapping[UnitKey, Unit]) -> Person:
    first, *_ = held = sorted(theirs, key=lambda t: (key_of(t.unit), t.post))
    posts = (
        HeldPost(unit=t.unit, kind=units[key_of(t.unit)].kind if key_of(t.unit) in units else "", post=t.post)
        for t in held
    )
    return Person(holder_id=first.holder_id, name=first.holder_name, posts=tuple(posts))


def may_ring_at(contact: Contact, now: datetime) -> datetime:
    """Return from when a test may go to the channel: outside of its own quiet hours, and not at night."""
    at = now
    for quiet in (contact, NIGHT, contact):
        at = rings_at(quiet, at, may_wait=True)
    return at


def words(person: Person, channel: str, posts: Iterable[Post], confirm_by: datetime) -> tuple[str, str]:
    """Return the title and body of the message that tests a channel: Vietnamese, then English, each on a line."""
    titles = {post.key: post for post in posts}
    held = [(titles.get(h.post), h) for h in person.posts]
    said = {"channel": scheme(channel), "by": f"{local(confirm_by):%H:%M %d/%m/%Y}"}
    vi = [f"{post.title_vi if post else h.post} {h.kind} {h.unit.name}" for post, h in held]
    en = [f"{post.title_en if post else h.post}, {h.unit.name}" for post, h in held]
    body = (template("channel_test.vi").render(said, posts=vi), template("channel_test.en").render(said, posts=en))
    return template("channel_test_title").render(), "\n".join(body)
