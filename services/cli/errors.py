"""The errors that end a command with one line."""


class CommandError(Exception):
    """The command could not do its work. The text is one line: the thing, the value and the way out."""

    exit_code = 1


class UsageError(CommandError):
    """An option, a setting or an argument is wrong. The text never shows a value that may be a secret."""

    exit_code = 2
