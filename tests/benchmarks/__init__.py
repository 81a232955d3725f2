"""Side-by-side measurements against the alternatives; results and plots are kept beside them."""
