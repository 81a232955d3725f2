"""Jobs for schedulers: rendered, handed in, followed.

`submit_command.py`: `tfdist submit`: which schedulers there are.
`slurm_command.py`: `tfdist submit slurm`: its options; the --grace that it gives the launcher.
`slurm_script.py`: the batch script: srun, signals before the time is up, requeue.
`slurm_queue.py`: sbatch, and a job followed to its end.
`kubernetes_command.py`: `tfdist submit kubernetes`: its options; those of `run` that a pod cannot
    take.
`kubernetes_job.py`: the manifests: Secret, NetworkPolicy, Service, Job, JobSet or TrainJob; which
    exit codes are tried again.
`pod.py`: the pod of a task: container, limits, volumes, seconds to end (120).
`kubernetes_names.py`: what Kubernetes takes for a name, a label, an amount; refusals.
`kubectl.py`: a job handed in, followed and deleted, by kubectl; its exit code; why a pod waits.
`dockerfile.py`: an image for a script.
`yaml_text.py`: plain data as YAML.
`telling.py`: how all of this prints its lines, "[tfdist] ...".
"""
