"""Commands that print the figures which the project shows: `python -m tests.figures.equality`."""
