"""Commands with a file of their own; cli.py joins them."""
