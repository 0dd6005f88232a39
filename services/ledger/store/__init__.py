"""Tables of the ledger service and every query on them, by subject."""
