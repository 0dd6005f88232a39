"""From a submission to a draft: a report whose ward, times, commitments and event are made. Pure.

Time, ids, salts and keys are arguments.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import orjson

from services.intake.domain.submission import Reporter, Submission, is_clock_ahead, time_error
from services.intake.domain.wards import Posting, Unit, followers, in_force, is_named, of_another_time, resolve
from shared.clock import local
from shared.commitment import Committed, commitment
from shared.events import ReportReceivedV2, ReportReceivedV2Data, Source, UnitRef, Who
from shared.http.identity import Principal
from shared.http.problem import FieldError, Problem, invalid
from shared.pseudonym import pseudonym

SOURCE = "/trucban/intake"
ReportKey = tuple[str, str]
"""Submitter and the id that the submitter gave: what identifies a report. Two senders may use one id."""


@dataclass(frozen=True)
class Draft:
    """A report that is ready to be stored."""

    report_id: str
    """The sender's."""
    event: ReportReceivedV2
    content_mac: bytes
    receipt: str
    submitter: str
    reporter: Reporter | None
    reporter_salt: str | None

    @property
    def key(self) -> ReportKey:
        return self.submitter, self.report_id


@dataclass(frozen=True)
class DraftContext:
    """What a draft takes from outside: our time, ids, salts, and the keys of the content hash and of pseudonyms."""

    received_at: datetime
    new_id: Callable[[], str]
    new_salt: Callable[[], str]
    new_receipt: Callable[[], str]
    content_key: bytes
    pseudonym_key: bytes
    postings: Mapping[str, Sequence[Posting]] = field(default_factory=dict[str, list[Posting]])
    """By the pseudonym of the sender."""


def draft_report(submission: Submission, caller: Principal, units: Sequence[Unit], context: DraftContext) -> Draft:
    """Raises Problem 403 outside the caller's ward or role, 422 for a ward or time that cannot be taken."""
    sender = _resolve_sender(submission, caller)
    received_at = submission.received_at or context.received_at
    times = {"occurred_at": submission.occurred_at, "captured_at": submission.captured_at}
    for name, time in times.items():
        if time is not None and (wrong := time_error(time, received_at)):
            raise invalid([FieldError(f"#/{name}", wrong)])
    happened_at = min(submission.occurred_at, received_at)
    unit = _resolve_unit(submission.ward, units, happened_at)
    source = _source_of(sender, context)
    # an import knows of old reports by which ward they came, and not by which token
    issued_at = sender.issued(context.received_at) if sender is caller else happened_at
    _insist_on_unit(sender, unit, issued_at, context.postings.get(source.subject), submission, received_at)
    event_id = context.new_id()
    salt = context.new_salt() if submission.reporter else None
    data = ReportReceivedV2Data(
        report_id=event_id,
        sender_report_id=_commit(submission.report_id, context),
        unit=UnitRef(code=unit.code, valid_from=unit.valid_from, name=unit.name),
        category=submission.category,
        occurred_at=submission.occurred_at,
        captured_at=submission.captured_at,
        received_at=received_at,
        from_source=source,
        who=_who(caller, context),
        harm=submission.harm,
        firecracker=submission.firecracker,
        evidence=submission.evidence,
        neighbourhood=_commit(submission.neighbourhood, context),
        location=_commit(_location_text(submission), context),
        description=_commit(submission.description, context),
        reporter_commitment=_commit_reporter(event_id, submission.reporter, salt),
        exercise=submission.exercise,
        clock_ahead=is_clock_ahead(submission.occurred_at, received_at),
    )
    event = ReportReceivedV2(id=event_id, source=SOURCE, subject=event_id, time=received_at, data=data)
    return Draft(
        report_id=submission.report_id,
        event=event,
        content_mac=compute_content_mac(submission, sender.subject, context.content_key),
        receipt=context.new_receipt(),
        submitter=sender.subject,
        reporter=submission.reporter,
        reporter_salt=salt,
    )


def _insist_on_unit(
    sender: Principal,
    unit: Unit,
    issued_at: datetime,
    postings: Sequence[Posting] | None,
    submission: Submission,
    received_at: datetime,
) -> None:
    """Raise Problem 403 if an officer or a device is posted elsewhere. None recorded: it is where its token says.

    They are heard while they are posted; afterwards, as from a queue that was filled off-line, of what happened then.
    """
    if sender.role not in {"officer", "device"}:
        return
    place = f"{unit.code} {unit.name} of {unit.valid_from}"
    if postings is not None:
        then = [at for at in (submission.occurred_at, submission.captured_at) if at is not None]
        here = [each for each in postings if each.unit == (unit.code, unit.valid_from)]
        if not any(each.holds(received_at) or all(map(each.holds, then)) for each in here):
            raise Problem(403, f"you are not posted in ward {place} now, nor were you when it happened")
        return
    if sender.role == "officer" and sender.ward is None:
        raise Problem(403, "no posting of yours is recorded, and your token names no ward: ask an administrator")
    if sender.ward is not None and not is_named(unit, sender.ward, issued_at):
        raise Problem(403, f"ward {place} is not yours; your token is for ward {sender.ward}")


def compute_content_mac(submission: Submission, submitter: str, key: bytes) -> bytes:
    """Keyed hash of a report's content and its submitter. Keyed, since free text and phones can be guessed."""
    content = orjson.dumps([submitter, submission.content()], option=orjson.OPT_SORT_KEYS)
    return hmac.new(key, content, hashlib.sha256).digest()


def reporter_json(reporter: Reporter) -> str:
    """As it is encrypted, and as its commitment covers it."""
    return orjson.dumps(reporter.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS).decode()


def _resolve_sender(submission: Submission, caller: Principal) -> Principal:
    if submission.on_behalf_of is None and submission.received_at is None:
        return caller
    if caller.role != "admin":
        field = "on_behalf_of" if submission.on_behalf_of else "received_at"
        raise Problem(403, f"{field} may be set by an administrator's import only: leave it out")
    behalf = submission.on_behalf_of
    return Principal(behalf.subject, behalf.role, behalf.ward) if behalf else caller


def _source_of(sender: Principal, context: DraftContext) -> Source:
    match sender.role:
        case "officer" | "device" | "desk" | "admin":
            return Source(kind=sender.role, subject=pseudonym(context.pseudonym_key, sender.subject))
        case _:
            raise Problem(403, f"role {sender.role} does not submit reports; an officer, a device or the desk does")


def _who(caller: Principal, context: DraftContext) -> Who | None:
    """The person who sent it, by the pseudonym of a sender whatever their role; None for a device, which is nobody."""
    if caller.role == "device":
        return None
    return Who(subject=pseudonym(context.pseudonym_key, caller.subject), role=caller.role, means=caller.means)


def _resolve_unit(text: str, units: Sequence[Unit], at: datetime) -> Unit:
    known = in_force(units, at)
    found = resolve(text, known)
    if isinstance(found, Unit):
        return found
    if not known:
        raise invalid([FieldError("#/ward", f"no ward is known that was in force on {local(at):%Y-%m-%d}")])
    day = local(at).date()
    if (other := of_another_time(text, units, day)) is not None:
        heirs = followers(other, units, day)
        raise invalid([FieldError("#/ward", _not_on(day, other, heirs), candidates=_choices(heirs))])
    names = ", ".join(u.name for u in found)
    advice = f"did you mean {names}?" if found else "GET /intake/v1/wards lists them"
    raise invalid([FieldError("#/ward", f"{text!r} is not exactly one ward: {advice}", candidates=_choices(found))])


def _choices(units: Sequence[Unit]) -> list[dict[str, str]]:
    return [{"code": u.code, "valid_from": u.valid_from.isoformat(), "name": u.name, "kind": u.kind} for u in units]


def _not_on(day: date, unit: Unit, heirs: Sequence[Unit]) -> str:
    """Why the unit cannot be meant. Wards with a name like it are not offered: they are other places."""
    if unit.valid_to is None or day < unit.valid_from:
        begins = f"{unit.name} ({unit.code}) begins on {unit.valid_from}"
        return f"{begins}, and it happened on {day}: name the ward that was there then"
    names = " or ".join(f"{heir.name} ({heir.code})" for heir in heirs)
    advice = f"name {names}" if heirs else "name the ward that has its place now; GET /intake/v1/wards lists them"
    return f"{unit.name} ({unit.code}) ended on {unit.valid_to}, and it happened on {day}: {advice}"


def _commit(value: str | None, context: DraftContext) -> Committed | None:
    return Committed(salt=context.new_salt(), value=value) if value else None


def _location_text(submission: Submission) -> str | None:
    if submission.location is None:
        return None
    return orjson.dumps(submission.location.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS).decode()


def _commit_reporter(event_id: str, reporter: Reporter | None, salt: str | None) -> str | None:
    if reporter is None or salt is None:
        return None
    return commitment(event_id, "reporter", Committed(salt=salt, value=reporter_json(reporter)))
