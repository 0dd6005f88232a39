"""Which events a person causes: what the tests of authors go by. Kinds are types without prefix and version."""

BY_PEOPLE = frozenset(
    {
        "unit.recorded",
        "tenure.recorded",
        "roster.recorded",
        "contact.recorded",
        "channel_test.started",
        "contact.confirmed",
        "rulebook.adopted",
        "acknowledgement.recorded",
        "severity.revised",
        "incident.verified",
        "incident.designated",
        "incident.merged",
        "incident.split",
        "incident.handed_off",
        "incident.corrected",
        "incident.escalated",
        "posting.recorded",
        "response.recorded",
        "closure.proposed",
        "incident.closed",
        "incident.dismissed",
        "incident.reopened",
        "access.recorded",
        "data.restored",
        "partitions.changed",
        "dead_letter.discarded",
        "credential.issued",
        "credential.revoked",
    }
)
"""Each of these names a person, always."""

BY_SOME = frozenset(
    {
        "report.received",  # a device is nobody
        "incident.opened",  # by a split
        "report.correlated",  # by a split or a merge
        "decision.made",
        "notice.issued",
        "suggestion.raised",
    }
)
"""These name whoever caused them, where a person did at once."""

BY_NOBODY = frozenset(
    {"delivery.finished", "acknowledgement.lapsed", "step.raised", "chain.exhausted", "credential.refused"},
)
"""These follow from what was sent, or from a time that passed."""

COMMANDS = {
    "import wards": ("unit.recorded", "rulebook.adopted"),
    "import directory": ("tenure.recorded", "roster.recorded", "contact.recorded", "rulebook.adopted"),
    "partitions": ("partitions.changed",),
    "restore": ("data.restored",),
    "dead-letters discard": ("dead_letter.discarded",),
    "token issue": ("credential.issued",),
    "token revoke": ("credential.revoked",),
}
"""What commands record beside a running system, or without one."""

COMMANDS_THAT_RECORD_NOTHING = frozenset(
    {
        "up",
        "serve",
        "migrate",
        "doctor",
        "backup",
        "report",
        "token list",
        "token rotate-key",
        "import reports",
        "contacts test",
        "contacts list",
        "ledger key",
        "ledger verify",
        "rulebook check",
        "rulebook try",
        "decisions replay",
        "dead-letters list",
        "dead-letters retry",
    }
)
"""They only look, start a system, or ask one with a token, whose subject its events then name."""
