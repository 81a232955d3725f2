"""`tfdist doctor`: what would keep a job from running, told before anybody waits.

To observe and to judge are apart: `looking_around` and `run_folder` see what there is
on one machine, and the doctors of several put it together (`chief_doctor`, `colleague`);
`spec_checks`, `host_checks` and `job_checks` are pure and say what it means.
"""
