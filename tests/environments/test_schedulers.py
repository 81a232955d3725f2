"""What schedulers tell their processes, as it was recorded, is a cluster, or one error."""

from __future__ import annotations

import pytest

from tfdist.cluster import Cluster
from tfdist.environments import detect_cluster, gpus_are_own, scheduler_of, why_not_alone
from tfdist.environments.ranks import port_of_job
from tfdist.environments.slurm import ranks_by_node, tasks_per_node
from tfdist.errors import ClusterError

# Slurm 22.05: srun -N2 --ntasks-per-node=2, its last task
EVEN = {
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "host[0-1]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_GTIDS": "2,3",
}
# A step over both groups of a heterogeneous job: one task on one node, three on two others
HETEROGENEOUS = {
    **EVEN,
    "SLURM_HET_SIZE": "2",
    "SLURM_STEP_NODELIST": "host[0-2]",
    "SLURM_STEP_TASKS_PER_NODE": "1,2,1",
    "SLURM_PROCID": "2",
    "SLURM_GTIDS": "1,2",
}
# Its batch script, which srun has not started
BATCH = {
    "SLURM_JOB_ID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODELIST": "host[0-1]",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "PMIX_NAMESPACE": "1517420545",
}
SKYPILOT = {
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_RANK": "1",
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
}
TRAIN_JOB = {
    "PET_NNODES": "3",
    "PET_NODE_RANK": "2",
    "PET_NPROC_PER_NODE": "1",
    "PET_MASTER_ADDR": "fit-node-0-0.fit",
    "PET_MASTER_PORT": "29400",
    "JOB_COMPLETION_INDEX": "2",
}
VOLCANO = {
    "VC_PS_HOSTS": "fit-ps-0.fit",
    "VC_PS_NUM": "1",
    "VC_WORKER_HOSTS": "fit-worker-0.fit,fit-worker-1.fit",
    "VC_WORKER_NUM": "2",
    "VC_MASTER_HOSTS": "fit-master-0.fit",
    "VC_TASK_INDEX": "1",
    "HOSTNAME": "fit-worker-1",
}


def found(environ: dict[str, str], **more: str) -> tuple[str, list[str]]:
    """The task of this process, and all tasks with their addresses."""
    cluster = detect_cluster({**environ, **more})
    assert cluster is not None
    tasks = [f"{task} {cluster.address(task)}" for task in cluster.tasks]
    return str(cluster.task), tasks


def test_slurm() -> None:
    task, tasks = found(EVEN)
    assert task == "worker:3"
    assert tasks == [
        "worker:0 host0:20016",
        "worker:1 host0:20017",
        "worker:2 host1:20016",
        "worker:3 host1:20017",
    ]
    assert found(HETEROGENEOUS)[0] == "worker:2"
    assert [one.split()[1] for one in found(HETEROGENEOUS)[1]] == [
        "host0:20016",
        "host1:20016",
        "host1:20017",
        "host2:20016",
    ]


def test_slurm_with_other_tasks_than_workers() -> None:
    task, tasks = found(EVEN, TFDIST_PS="2", TFDIST_PORT="3000")
    assert task == "ps:1"
    assert tasks == [
        "chief:0 host0:3000",
        "worker:0 host0:3001",
        "ps:0 host1:3000",
        "ps:1 host1:3001",
    ]
    task, tasks = found(EVEN, TFDIST_PS="1", TFDIST_EVALUATOR="1")
    assert task == "evaluator:0"  # stands beside the cluster
    assert [one.split()[0] for one in tasks] == ["chief:0", "worker:0", "ps:0"]
    task, tasks = found(EVEN, TFDIST_CHIEF="1", TFDIST_EVALUATOR="1")
    assert [one.split()[0] for one in tasks] == ["chief:0", "worker:0", "worker:1", "evaluator:0"]


def test_slurm_gives_ranks_to_nodes_in_blocks_or_in_turn() -> None:
    assert tasks_per_node("2(x2),1") == [2, 2, 1]
    assert ranks_by_node([2, 2, 1], cyclic=False) == [[0, 1], [2, 3], [4]]
    assert ranks_by_node([2, 2, 1], cyclic=True) == [[0, 3], [1, 4], [2]]
    second = {"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    assert found(EVEN, SLURM_DISTRIBUTION="cyclic", **second)[1][1] == "worker:1 host1:20016"
    with pytest.raises(ClusterError, match=r"task 1 is number 0 on node 1.*--distribution=block"):
        found(EVEN, **second)


def test_jobs_of_slurm_that_share_a_node_have_other_ports() -> None:
    assert len({port_of_job(job) for job in range(1000, 1750)}) == 750
    ports = [port_of_job(job, step) for job in range(2000) for step in range(3)]
    assert min(ports) >= 20000
    assert max(ports) + 16 <= 32768
    assert port_of_job(7, 0) != port_of_job(7, 1)


def test_the_batch_script_of_a_job_of_several_tasks_is_alone_and_is_told() -> None:
    assert detect_cluster(BATCH) is None
    assert "of 4 tasks, but this process was not started by srun" in why_not_alone(BATCH)
    assert why_not_alone({**BATCH, "SLURM_NTASKS": "1"}) == ""
    assert why_not_alone({**BATCH, "TFDIST_ENVIRONMENT": "alone"}) == ""
    assert why_not_alone(EVEN) == ""
    assert why_not_alone({}) == ""


def test_open_mpi() -> None:
    _, tasks = found(OPEN_MPI, OMPI_COMM_WORLD_LOCAL_SIZE="4")
    assert [one.rpartition(":")[0] for one in tasks] == [f"worker:{n} 127.0.0.1" for n in range(4)]
    task, tasks = found(OPEN_MPI, TFDIST_HOSTS="a,b", TFDIST_PORT="5000")
    assert task == "worker:2"
    assert tasks == ["worker:0 a:5000", "worker:1 a:5001", "worker:2 b:5000", "worker:3 b:5001"]
    assert found(OPEN_MPI, TFDIST_HOSTS="a,b,c,d", TFDIST_PORT="1")[1][3] == "worker:3 d:1"
    other = found(OPEN_MPI, TFDIST_HOSTS="a,b", PMIX_NAMESPACE="1517420546")[1]
    assert other[0] != found(OPEN_MPI, TFDIST_HOSTS="a,b")[1][0]


def test_an_mpirun_inside_of_a_step_of_slurm_is_the_nearer_one() -> None:
    assert found({**EVEN, **OPEN_MPI}, TFDIST_HOSTS="a,b")[1][0].startswith("worker:0 a:")


def test_kubernetes() -> None:
    indexed = {"TFDIST_HOSTS": "fit-[0-2].fit", "JOB_COMPLETION_INDEX": "1"}
    assert found(indexed) == (
        "worker:1",
        [f"worker:{n} fit-{n}.fit:20000" for n in range(3)],
    )
    assert found(TRAIN_JOB) == (
        "worker:2",
        [f"worker:{n} fit-node-0-{n}.fit:20000" for n in range(3)],
    )
    assert found(TRAIN_JOB, TFDIST_HOSTS="a,b,c")[1][2] == "worker:2 c:20000"
    assert found(VOLCANO) == (
        "worker:1",
        [
            "chief:0 fit-master-0.fit:20000",
            "worker:0 fit-worker-0.fit:20000",
            "worker:1 fit-worker-1.fit:20000",
            "ps:0 fit-ps-0.fit:20000",
        ],
    )


def test_one_pod_is_alone_and_other_tasks_of_volcano_are_none_of_the_job() -> None:
    assert detect_cluster({"VC_WORKER_HOSTS": "fit-worker-0.fit"}) is None
    assert found({**VOLCANO, "VC_SIDECAR_HOSTS": "x"}) == found(VOLCANO)
    assert detect_cluster({"PET_NNODES": "", "SKYPILOT_NUM_NODES": ""}) is None


def test_skypilot() -> None:
    assert found(SKYPILOT) == ("worker:1", ["worker:0 10.0.0.1:20000", "worker:1 10.0.0.2:20000"])
    assert detect_cluster({**SKYPILOT, "SKYPILOT_NUM_NODES": "1"}) is None


def test_addresses_of_version_6() -> None:
    assert found({"TFDIST_HOSTS": "::1,::1", "TFDIST_RANK": "1"})[1][1] == "worker:1 [::1]:20001"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"JOB_COMPLETION_INDEX": "1"}, r"rank 1 of several \(JOB_COMPLETION_INDEX=1\), but"),
        ({"PMIX_RANK": "2"}, "rank 2 of several .* set TFDIST_HOSTS to the hosts of all ranks"),
        (OPEN_MPI, r"rank 2 of several .*TFDIST_ENVIRONMENT=alone"),
        ({**OPEN_MPI, "TFDIST_HOSTS": "a,b,c"}, "3 hosts for 4 ranks of Open MPI, 2 of them here"),
        ({"TFDIST_HOSTS": "a,b", "TFDIST_RANK": "2"}, "rank 2 of 2; ranks go from 0 to 1"),
        ({"TFDIST_HOSTS": "a,b", "TFDIST_RANK": "x"}, "TFDIST_RANK: 'x'; a number"),
        ({"TFDIST_HOSTS": "a,b"}, "TFDIST_RANK: ''; a number"),
        ({"TFDIST_HOSTS": "a[1-", "TFDIST_RANK": "0"}, "is no list of hosts"),
        ({**EVEN, "SLURM_STEP_NODELIST": "host0"}, "1 nodes in SLURM_STEP_NODELIST, and 2 in"),
        ({**EVEN, "SLURM_STEP_TASKS_PER_NODE": ""}, "SLURM_STEP_TASKS_PER_NODE: ''; a list"),
        ({**EVEN, "TFDIST_PS": "4"}, r"Slurm has 4 tasks, of which .*TFDIST_PS=4.* leave 0"),
        ({**TRAIN_JOB, "PET_MASTER_ADDR": "10.0.0.1"}, "PET_MASTER_ADDR: '10.0.0.1'; the name"),
        ({**VOLCANO, "HOSTNAME": "other"}, "HOSTNAME 'other' is none of its pods: fit-ps-0.fit"),
        ({"VC_TRAINER_HOSTS": "a,b"}, "tasks called trainer; call them chief, worker, ps and ev"),
        ({**TRAIN_JOB, "PET_NNODES": "1:4"}, "PET_NNODES: '1:4'; a TrainJob of a fixed number"),
        ({"TFDIST_ENVIRONMENT": "slrum"}, "TFDIST_ENVIRONMENT: 'slrum'; it is one of alone, TF_C"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ClusterError, match=says) as caught:
        detect_cluster(environ)
    assert "\n" not in str(caught.value)


TWO = Cluster({"worker": ("a:1", "b:1")})


def test_a_spec_and_a_scheduler_that_disagree_are_both_named() -> None:
    both = {**EVEN, "TF_CONFIG": TWO.to_tf_config("worker:1")}
    with pytest.raises(ClusterError, match="TF_CONFIG has 2 tasks, but Slurm has started 4"):
        detect_cluster(both)
    assert found(both, TFDIST_ENVIRONMENT="Slurm")[0] == "worker:3"
    assert found(both, TFDIST_ENVIRONMENT="TF_CONFIG")[0] == "worker:1"
    assert detect_cluster({**both, "TFDIST_ENVIRONMENT": "alone"}) is None
    # Tasks that a launcher inside of the step has started are that one's.
    assert found(both, TFDIST_LAUNCHED="1")[0] == "worker:1"
    assert found(both, TFDIST_LAUNCHED="1", TFDIST_ENVIRONMENT="Slurm")[0] == "worker:1"


def test_a_spec_may_say_more_than_ranks_do() -> None:
    ranks = {"JOB_COMPLETION_INDEX": "1", "TF_CONFIG": TWO.to_tf_config("worker:1")}
    assert found(ranks)[0] == "worker:1"
    agree = {
        **EVEN,
        "TF_CONFIG": Cluster({"worker": ("a:1", "b:1", "c:1", "d:1")}).to_tf_config("worker:3"),
    }
    assert found(agree)[0] == "worker:3"
    # A task of the step may start several of the spec's, and an evaluator stands beside servers.
    more = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    task = {"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    assert found(agree, **more, **task)[0] == "worker:3"
    servers = Cluster({"chief": ("a:1",), "worker": ("b:1",), "ps": ("c:1",)})
    assert found({**EVEN, "TF_CONFIG": servers.to_tf_config("worker:0")})[0] == "worker:0"


def test_one_of_several_is_known_to_the_launcher() -> None:
    scheduler = scheduler_of(EVEN)
    assert scheduler is not None
    assert scheduler.name == "Slurm"
    assert scheduler_of({**EVEN, "TFDIST_ENVIRONMENT": "alone"}) is None
    assert scheduler_of({**EVEN, "TFDIST_LAUNCHED": "1"}) is None
    assert scheduler_of({}) is None
    assert scheduler_of({"JOB_COMPLETION_INDEX": "3"}) is None


# ---------------------------------------------------------------- GPUs

# Slurm 22.05, a node of four: srun -N1 -n2 with these options, its second task
ALL_FOUR = {  # --gres=gpu:4
    **EVEN,
    "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    "SLURM_STEP_GPUS": "0,1,2,3",
    "SLURM_GPUS_ON_NODE": "4",
}
PER_TASK = {**ALL_FOUR, "CUDA_VISIBLE_DEVICES": "2,3", "SLURM_STEP_GPUS": "2,3"}
SINGLE = {**ALL_FOUR, "CUDA_VISIBLE_DEVICES": "1", "SLURM_STEP_GPUS": "1"}  # --gpu-bind=single:1
UNBOUND = {**EVEN, "SLURM_GPUS_ON_NODE": "4"}  # --gpus-per-task=2 --gpu-bind=none


@pytest.mark.parametrize(
    ("environ", "own"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, False),
        (EVEN, False),
        (BATCH | {"CUDA_VISIBLE_DEVICES": "0"}, False),
        (ALL_FOUR, False),
        (PER_TASK, True),
        (SINGLE, True),
        (UNBOUND, False),
        (SINGLE | {"CUDA_VISIBLE_DEVICES": ""}, False),
        (SINGLE | {"SLURM_GPUS_ON_NODE": "all"}, False),
    ],
)
def test_gpus_that_slurm_has_bound_to_a_task_are_its_own(
    environ: dict[str, str], own: bool
) -> None:
    assert gpus_are_own(environ) is own
