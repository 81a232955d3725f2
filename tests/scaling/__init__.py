"""Scale on paper: what must hold of every way, whatever the numbers are."""
