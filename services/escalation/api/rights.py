"""Who may call the routes under `/escalation/v1`."""

from services.escalation.domain.incidents.lifecycle import WHO, Action, forbidden
from shared.http.identity import ROLES, Role
from shared.http.rights import Reach, Right, Rights, anywhere, public


def _wards(*roles: Role, official: Reach) -> Right:
    """These roles, of which officers and officials are bound to wards."""
    bound: dict[Role, Reach] = {"officer": "own", "official": official}
    return Right({role: bound.get(role, "any") for role in roles})


def _acting(*actions: Action) -> Right:
    """Whoever may take one of these actions, which the domain says."""

    def refusal(role: Role) -> str:
        refused = forbidden(actions[0], role)
        assert refused is not None
        return refused.reason

    may = frozenset[str]().union(*(WHO[action] for action in actions))
    by: list[Role] = [role for role in ROLES if may >= {role}]
    return Right(_wards(*by, official="own").reach, refusal=refusal)


_READ = _wards("officer", "official", "desk", "leader", official="told")
_CONFIGURATION = Right({"official": "office", "desk": "any", "leader": "any", "auditor": "any", "admin": "any"})
_TESTS = anywhere("desk", "leader", "auditor", "admin")
_DECISION = _wards("officer", "official", "desk", "leader", "auditor", official="told")
_LINK = public("whoever has the link, which is signed for one person and one notice")
_INCIDENT = "/incidents/{incident_id}"
RIGHTS: Rights = {
    "GET /incidents": _READ,
    "GET /handover": _READ,
    f"GET {_INCIDENT}": _READ,
    "GET /stream": _wards("officer", "official", "desk", "leader", official="own"),
    f"POST {_INCIDENT}/acknowledgements": _wards("official", "desk", "leader", official="told"),
    f"POST {_INCIDENT}/verifications": _acting("verify", "dismiss"),
    f"POST {_INCIDENT}/designations": _acting("designate"),
    f"POST {_INCIDENT}/severity": _acting("revise"),
    f"POST {_INCIDENT}/merges": _acting("merge"),
    f"POST {_INCIDENT}/splits": _acting("split"),
    f"POST {_INCIDENT}/handoffs": _acting("hand_off", "reassign"),
    f"POST {_INCIDENT}/transfers": _acting("reassign"),
    f"POST {_INCIDENT}/corrections": _acting("correct"),
    f"POST {_INCIDENT}/senders": anywhere("desk", note="with a reason, which is recorded"),
    f"POST {_INCIDENT}/responses": _acting("respond"),
    f"POST {_INCIDENT}/escalations": _acting("escalate"),
    f"POST {_INCIDENT}/closure-proposals": _acting("propose_closure"),
    f"POST {_INCIDENT}/closures": _acting("close"),
    f"POST {_INCIDENT}/reopenings": _acting("reopen"),
    "GET /directory": _CONFIGURATION,
    "GET /directory?kind=contacts": anywhere("desk", "admin"),
    "GET /directory?kind=postings": anywhere("admin"),
    "PUT /directory/tenures": anywhere("admin"),
    "PUT /directory/rosters": anywhere("admin"),
    "PUT /directory/postings": anywhere("admin"),
    "PUT /directory/contacts": anywhere("admin"),
    "POST /contact-tests": anywhere("desk", "admin"),
    "GET /contact-tests": _TESTS,
    "GET /contact-tests/{test_id}": _TESTS,
    "GET /credentials": anywhere("admin"),
    "POST /credentials/revocations": anywhere("admin"),
    "GET /rulebooks": _CONFIGURATION,
    "GET /rulebooks/{version}": _CONFIGURATION,
    "GET /decisions/{decision_id}": _DECISION,
    "GET /decisions/{decision_id}/replay": _DECISION,
    "GET /links/{notice_id}": _LINK,
    "POST /links/{notice_id}": _LINK,
}
