"""Who may call the routes under `/intake/v1`."""

from shared.http.rights import Right, Rights, public

_SUBMIT = Right(
    {"officer": "posted", "device": "posted", "desk": "any", "admin": "any"},
    note="a device without a posting, whose token names no ward: any; only an administrator sends on behalf of others",
)
RIGHTS: Rights = {
    "POST /reports": _SUBMIT,
    "POST /reports:batch": _SUBMIT,
    "GET /reports": Right(dict.fromkeys(_SUBMIT.roles, "sent")),
    "GET /receipts/{receipt}": public("whoever has the receipt; it tells nothing personal"),
    "GET /wards": public(),
}
