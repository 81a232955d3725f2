"""Jobs whose workers, or servers, change in number, and the launchers that decide it together."""
