"""The published documents: every route says what it takes and answers, who may call it, and how it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from services.cli.all_services import build_all
from shared.clock import Clock
from shared.database import SERVICES
from shared.http.body import bounded
from shared.http.guard import Caller, guarded
from shared.http.identity import ROLES, verifier
from shared.http.openapi import MEDIA_TYPE, RawBody, UnlistedRouteError, problems
from shared.http.rights import Rights, anywhere, public
from shared.http.web import compose, service_app
from shared.settings import Settings

PROBLEM = {"$ref": "#/components/schemas/Problem"}
PUBLIC = {
    "GET /intake/v1/receipts/{receipt}",
    "GET /intake/v1/wards",
    "GET /escalation/v1/links/{notice_id}",
    "POST /escalation/v1/links/{notice_id}",
    "GET /ledger/v1/checkpoint",
    *(f"GET /{service}/{path}" for service in SERVICES for path in ("healthz", "readyz")),
}
OPEN = {
    "escalation FindingItem.content",
    "escalation TimelineItem.data",
    "ledger EntryBody.data",
    *(f"{service} FieldError.candidates" for service in SERVICES),
}
"""Objects whose members a document leaves open, each with a description that says why."""
Operation = dict[str, Any]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By service, as each publishes it when it runs."""
    given = {
        "redis_url": "redis://nowhere",
        "database_url": "postgresql://nobody@nowhere/none",
        "data": tmp_path_factory.mktemp("documents"),
    }
    settings = Settings().model_copy(update=given)
    services = list(build_all(settings, Clock()))
    compose(services, verifier(settings.keys_dir))
    return {service.name: service.app.openapi() for service in services}


def operations(documents: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Operation]]:
    for service, document in documents.items():
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                yield f"{method.upper()} /{service}{path}", operation


def places(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every JSON value inside, with the way to it."""
    yield place, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, f"{place}/{name}")


def resolved(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


# --- what the three services publish ---


def test_every_success_has_a_schema_that_names_what_is_in_it(documents: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations(documents):
        document = documents[name.split("/")[1]]
        successes = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        assert successes, name
        for answer in successes:
            for media_type, content in answer["content"].items():
                schema = content["schema"]
                schema = resolved(document, schema["$ref"]) if "$ref" in schema else schema
                is_json = media_type == "application/json"
                assert bool(schema.get("properties")) if is_json else schema["type"] == "string", (name, media_type)


def test_only_what_is_by_nature_open_is_left_open(documents: dict[str, dict[str, Any]]) -> None:
    found: set[str] = set()
    for service, document in documents.items():
        for name, schema in document["components"]["schemas"].items():
            for field, described in schema.get("properties", {}).items():
                if any(inner is True for place, inner in places(described) if place.endswith("additionalProperties")):
                    found.add(f"{service} {name}.{field}")
                    assert described["description"]
    assert found == OPEN


def test_every_failure_is_a_problem(documents: dict[str, dict[str, Any]]) -> None:
    """But that a service is not ready, which says by itself why."""
    for name, operation in operations(documents):
        failures = {status: a for status, a in operation["responses"].items() if not status.startswith("2")}
        assert "default" in failures, name
        for status, answer in failures.items():
            if name.endswith("/readyz") and status == "503":
                assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Readiness")
                continue
            assert answer["description"], name
            assert answer["content"][MEDIA_TYPE]["schema"] == PROBLEM, (name, status)
            assert "application/json" not in answer["content"], (name, status)


def test_every_operation_is_public_or_says_which_token_and_roles_it_takes(
    documents: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations(documents):
        if name.endswith("/metrics"):
            assert operation["security"] == [{}, {"token": []}], "from this machine it needs none"
            continue
        *_, last = operation["description"].splitlines()
        if name in PUBLIC:
            assert "security" not in operation, name
            assert last == "Public."
            continue
        assert operation["security"] == [{"token": []}], name
        assert set(last.removeprefix("Roles: ").removesuffix(".").split(", ")) <= set(ROLES), name
        assert {"401", "403", "429"} <= set(operation["responses"]), name
    for document in documents.values():
        scheme = document["components"]["securitySchemes"]["token"]
        assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


def test_every_reference_leads_somewhere_and_no_name_tells_of_our_modules(
    documents: dict[str, dict[str, Any]],
) -> None:
    for document in documents.values():
        for place, value in places(document):
            if place.endswith("/$ref"):
                assert resolved(document, value)
        assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])
        assert not any("__" in name for name in document["components"]["schemas"])


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("GET /escalation/v1/incidents", {"200", "401", "403", "422", "429", "503"}),
        ("GET /escalation/v1/incidents/{incident_id}", {"200", "401", "403", "404", "429", "503"}),
        (
            "POST /escalation/v1/incidents/{incident_id}/acknowledgements",
            {"200", "201", "401", "403", "404", "429", "503"},
        ),
        (
            "POST /escalation/v1/incidents/{incident_id}/closures",
            {"200", "201", "400", "401", "403", "404", "409", "413", "422", "429", "503"},
        ),
        ("PUT /escalation/v1/directory/rosters", {"200", "400", "401", "403", "413", "422", "429", "503"}),
        ("GET /escalation/v1/links/{notice_id}", {"200", "404", "410", "503"}),
        ("GET /escalation/v1/stream", {"200", "401", "403", "422", "429", "503"}),
        ("POST /intake/v1/reports", {"200", "201", "400", "401", "403", "409", "413", "422", "429", "503"}),
        ("POST /intake/v1/reports:batch", {"200", "400", "401", "403", "413", "429", "503"}),
        ("GET /ledger/v1/export", {"200", "401", "403", "422", "429", "503"}),
        ("GET /ledger/v1/entries/{index}", {"200", "401", "403", "404", "422", "429", "503"}),
        ("GET /ledger/v1/checkpoint", {"200", "503"}),
        ("GET /ledger/healthz", {"200"}),
    ],
)
def test_a_route_names_the_statuses_that_it_can_give(
    documents: dict[str, dict[str, Any]], operation: str, statuses: set[str]
) -> None:
    assert set(dict(operations(documents))[operation]["responses"]) == statuses | {"default"}


@pytest.mark.parametrize(
    ("command", "roles"),
    [("closures", "desk"), ("closure-proposals", "official"), ("severity", "officer, official, desk")],
)
def test_a_command_names_who_takes_it(documents: dict[str, dict[str, Any]], command: str, roles: str) -> None:
    """Though the guard lets others in, so that the refusal can say why."""
    path = f"POST /escalation/v1/incidents/{{incident_id}}/{command}"
    assert dict(operations(documents))[path]["description"].endswith(f"Roles: {roles}.")


def test_the_preference_to_wait_is_documented(documents: dict[str, dict[str, Any]]) -> None:
    operation = dict(operations(documents))["POST /intake/v1/reports"]
    (prefer,) = (p for p in operation["parameters"] if p["in"] == "header")
    assert (prefer["name"], prefer["required"]) == ("prefer", False)
    assert "wait=N" in prefer["description"]
    assert "Preference-Applied" in operation["responses"]["201"]["headers"]


# --- how a document comes about ---


class Thing(BaseModel):
    name: str


routes = APIRouter(route_class=bounded(1_000))
raw = RawBody(2_000, {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}, [Thing])
RIGHTS: Rights = {
    "GET /open": public(),
    "GET /things/{thing_id}": anywhere("desk", "admin"),
    "PUT /things": anywhere("desk"),
    "POST /raw": anywhere("device"),
}


@routes.get("/open")
async def get_open(q: str = "") -> Thing:
    """Anything."""
    return Thing(name=q)


@routes.get("/things/{thing_id}", dependencies=[guarded])
async def get_thing(thing_id: int) -> Thing:
    return Thing(name=str(thing_id))


@routes.put("/things", responses=problems({409: "it is another"}))
async def put_thing(caller: Caller, thing: Thing) -> Thing:
    return thing


@routes.post("/raw")
async def post_raw(caller: Caller, content: Annotated[bytes, Depends(raw)]) -> Thing:
    return Thing(name=content.decode())


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return service_app("test", verifier(tmp_path_factory.mktemp("keys")), routes, RIGHTS).openapi()


@pytest.mark.parametrize(
    ("method", "path", "statuses", "who"),
    [
        ("get", "/open", {"200", "503"}, "Anything.\n\nPublic."),
        ("get", "/things/{thing_id}", {"200", "401", "403", "404", "422", "429", "503"}, "Roles: desk, admin."),
        ("put", "/things", {"200", "400", "401", "403", "409", "413", "422", "429", "503"}, "Roles: desk."),
        ("post", "/raw", {"200", "400", "401", "403", "413", "429", "503"}, "Roles: device."),
    ],
)
def test_problems_and_roles_follow_from_what_a_route_is_made_of(
    document: dict[str, Any], method: str, path: str, statuses: set[str], who: str
) -> None:
    operation = document["paths"][f"/v1{path}"][method]
    assert set(operation["responses"]) == statuses | {"default"}
    assert operation["description"] == who


def test_limits_of_bodies_are_told_and_a_body_read_by_hand_is_described(document: dict[str, Any]) -> None:
    put, post = document["paths"]["/v1/things"]["put"], document["paths"]["/v1/raw"]["post"]
    assert "1000 bytes" in put["responses"]["413"]["description"]
    assert "2000 bytes" in post["responses"]["413"]["description"]
    assert post["requestBody"]["content"] == raw.content
    assert document["components"]["schemas"]["Thing"]["properties"]["name"]["type"] == "string"


@pytest.mark.parametrize(
    ("rights", "says"),
    [
        ({name: right for name, right in RIGHTS.items() if name != "PUT /things"}, "PUT /things is not in the table"),
        (RIGHTS | {"PUT /things": public()}, "PUT /things: a public route asks for no caller"),
        (RIGHTS | {"GET /open": anywhere("desk")}, "GET /open: a public route asks for no caller, and every other"),
    ],
    ids=["no row", "public, and asks for a token", "not public, and asks for none"],
)
def test_a_service_does_not_start_with_a_route_that_its_table_does_not_guard(
    tmp_path: Path, rights: Rights, says: str
) -> None:
    with pytest.raises(UnlistedRouteError, match=says):
        service_app("test", verifier(tmp_path), routes, rights)
