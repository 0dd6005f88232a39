"""What the routes take and answer. Nothing personal is shown beyond the rule's need."""
