"""Entry point of `python -m zerone`."""

from zerone.cli.main.main import main

main()
