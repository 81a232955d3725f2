"""This machine, as a job meets it: its cores, its ports, and the hosts that it can look up."""
