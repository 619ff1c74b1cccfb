"""Machine measurement and child processes."""
