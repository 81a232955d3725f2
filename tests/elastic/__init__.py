"""Jobs whose workers change in number, and the launchers that decide it together."""
