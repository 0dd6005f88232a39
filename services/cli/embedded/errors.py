"""The errors of embedded servers."""


class EmbeddedError(Exception):
    """An embedded server cannot be had; the text is one line: the thing, the value and the way out."""


class InUseError(EmbeddedError):
    """Another living process runs the servers of this data folder."""
