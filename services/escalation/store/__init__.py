"""The tables of the escalation service, and all queries on them, by subject."""
