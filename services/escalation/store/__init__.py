"""Tables of the escalation service and every query on them, by subject."""
