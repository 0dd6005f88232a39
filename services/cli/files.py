"""Reading the files that a command is given."""

from pathlib import Path

from services.cli.errors import CommandError


def read_file(what: str, file: Path, limit: int = -1) -> bytes:
    """The file, or its first `limit` bytes. Raises CommandError, which calls it `what` and says why."""
    try:
        with file.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise CommandError(f"{what} {file} cannot be read: {reason_of(error)}") from error


def read_text(what: str, file: Path) -> str:
    """The file as UTF-8 text. Raises CommandError."""
    try:
        return read_file(what, file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"{what} {file}: {reason_of(error)}: save it in UTF-8") from error


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return error.strerror or type(error).__name__
