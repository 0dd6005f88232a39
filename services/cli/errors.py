"""What a command raises that could not do its work."""


class CommandError(Exception):
    """One line that names the thing, the value and the way out."""

    exit_code = 1


class UsageError(CommandError):
    """What was given cannot be meant. Never shows a value that may be a secret."""

    exit_code = 2
