"""`tfdist doctor`: what would keep a job from running, told before anybody waits.

To observe and to judge are apart.

`examination.py`: one doctor's whole work; `_CHECKS`, the order in which they are told.
`looking_around.py`: what is seen of this machine: names, cores, packages, ports; starts no
    TensorFlow.
`host_facts.py`: what one doctor has seen, as it travels to the chief's.
`run_folder.py`: whether files in the run's folder can be written, synced, renamed, locked, linked.
`spec_checks.py`: judges the spec, the environment and the secret, from their words alone. Pure.
`host_checks.py`: judges each host: cores, memory, open files, disk, GPUs, with their limits. Pure.
`job_checks.py`: judges all tasks together: names, ports, who reaches whom, versions, clocks. Pure.
`finding.py`: bad, doubtful, unchecked, good: the report, its verdict and exit code.
`visit.py`: all that was seen, for the checks; who tries to reach whom in a large job.
`chief_doctor.py`: waits for the doctors of all tasks, compares their clocks, has everybody try to
    reach everybody, and tells the diagnosis.
`colleague.py`: a doctor that goes to the chief's, and for how long it tries (30 s).
`door.py`: where the others' doctors come to, and who is turned away.
`line.py`: a connection between two doctors; how long reaching may take (3 s).
`exchange_job.py`: the job that times all-reduces, its deadlines, and the cause where it fails.
`all_reduces.py`: the program of each task of it: which sizes are timed.
"""
