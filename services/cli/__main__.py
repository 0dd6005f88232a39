"""`python -m services.cli` is `trucban`."""

from services.cli import main

main()
