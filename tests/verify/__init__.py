"""Programs with a fault seeded in each, sound programs, and what `tfdist verify` finds in them."""
