"""The documentation: what can be run is run, what it lists is there, and it builds strictly."""
