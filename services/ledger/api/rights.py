"""Who may call the routes under `/ledger/v1`. Entries are the auditor's alone: they name who reported."""

from shared.http.rights import Rights, anywhere, public

RIGHTS: Rights = {
    "GET /entries": anywhere("auditor"),
    "GET /entries/{index}": anywhere("auditor"),
    "GET /entries/{index}/proof": anywhere("auditor"),
    "GET /consistency": anywhere("auditor"),
    "GET /export": anywhere("auditor"),
    "GET /checkpoint": public("so that anybody can keep one"),
}
