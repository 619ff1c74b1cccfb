"""Entry point of `python -m zerone`."""

from zerone.cli.main import main

main()
