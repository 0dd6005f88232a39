"""`trucban`: the command line, and the only place that knows all three services."""

import gc

OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the command that the arguments of this process name."""
    # Imports make objects that stay. Python's own figure, 700, has it look through them so often that a start takes a
    # fifth longer.
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    from services.cli import program

    program.main()
