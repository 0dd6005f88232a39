"""Events: CloudEvents 1.0 that every service reads alike, with nothing personal outside a `Committed`."""

from datetime import timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.commitment import Committed
from shared.events import (
    DeadLetterDiscarded,
    DeadLetterDiscardedData,
    Envelope,
    ForeignTypeError,
    Harm,
    encode,
    parse,
    schemas,
    type_name,
)
from tests.support import NIGHT, SALT, received

EVENT = received(
    kind="officer",
    harm=Harm(deaths=0, property_vnd=2**53 - 1),
    description=Committed(salt=SALT, value="Nghe tiếng nổ"),
    point=(19.8, 105.77),
)


def test_an_event_is_a_cloudevent_in_structured_json() -> None:
    found = orjson.loads(encode(EVENT))
    envelope = {name: value for name, value in found.items() if name != "data"}
    assert envelope == {
        "specversion": "1.0",
        "id": EVENT.id,
        "source": "/trucban/intake",
        "subject": EVENT.subject,
        "type": "vn.trucban.report.received.v1",
        "time": "2023-01-21T23:50:00+07:00",
        "datacontenttype": "application/json",
        "dataschema": "urn:trucban:schema:report.received.v1",
    }


def test_an_event_comes_back_from_the_wire_as_it_was() -> None:
    assert parse(encode(EVENT)) == EVENT


def test_what_is_unknown_is_left_out_and_zero_is_not() -> None:
    assert orjson.loads(encode(EVENT))["data"]["harm"] == {"deaths": 0, "property_vnd": 2**53 - 1}


@pytest.mark.parametrize(
    "change",
    [
        {"type": "vn.trucban.report.received.v9"},
        {"type": None},
        {"specversion": "0.3"},
        {"time": "2023-01-21T23:50:00"},
        {"data": {}},
        {"data": None},
    ],
    ids=str,
)
def test_what_is_no_event_of_ours_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse(orjson.dumps(orjson.loads(encode(EVENT)) | change))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_on_the_wire_raise_more_than_a_validation_error(body: bytes) -> None:
    with pytest.raises(ValidationError):
        parse(body)


def test_a_newer_sender_may_add_a_field() -> None:
    newer = orjson.loads(encode(EVENT))
    newer["data"]["weather"] = "mưa"
    assert parse(orjson.dumps(newer)) == EVENT


def test_events_cannot_be_changed_after_the_fact() -> None:
    with pytest.raises(ValidationError):
        EVENT.time = NIGHT + timedelta(hours=1)  # type: ignore[misc]


def test_every_type_has_a_published_schema_and_a_name_of_our_own() -> None:
    found = schemas()
    assert set(found) == {type_name(model) for model in Envelope.__subclasses__()}
    for model in Envelope.__subclasses__():
        assert str(model.model_fields["type"].default).startswith("vn.trucban.")


def test_free_text_of_a_report_is_committed_and_never_bare() -> None:
    properties = schemas()["report.received.v1"]["$defs"]["ReportReceivedData"]["properties"]
    for name in ("description", "neighbourhood", "location"):
        assert {"$ref": "#/$defs/Committed"} in properties[name]["anyOf"]
    assert not {"reporter", "phone", "name"} & set(properties)


def test_a_service_sends_its_own_types_only() -> None:
    """Whoever took intake over could else speak as escalation."""
    body = encode(EVENT)
    assert parse(body, "intake") == EVENT
    with pytest.raises(ForeignTypeError):
        parse(body, "escalation")


@pytest.mark.parametrize("producer", ["intake", "escalation"])
def test_any_service_says_what_became_of_a_dead_letter(producer: str) -> None:
    reason = Committed(salt=SALT, value="Không đọc được")
    data = DeadLetterDiscardedData(
        group="ledger", stream="trucban.intake.{0}", digest="00" * 32, author="me", reason=reason
    )
    event = DeadLetterDiscarded(id=EVENT.id, source="/trucban/ledger", subject="00", time=NIGHT, data=data)
    assert parse(encode(event), producer) == event
