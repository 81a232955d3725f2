"""This machine, as a job meets it: cores, ports, signals, and the hosts it can look up."""
