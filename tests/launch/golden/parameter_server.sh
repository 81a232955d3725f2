# chief:0
env -u TFDIST_CLUSTER -u TFDIST_TASK \
    TF_CONFIG='{"cluster": {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}, "task": {"type": "chief", "index": 0}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TFDIST_RENDEZVOUS_TIMEOUT=30 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    PYTHONHASHSEED=0 \
    GRPC_FAIL_FAST=use_caller \
    TF_NUM_INTRAOP_THREADS=3 \
    OMP_NUM_THREADS=3 \
    py -m tfdist.training.autoplug -m package.module --flag

# worker:0
env -u TFDIST_CLUSTER -u TFDIST_TASK \
    TF_CONFIG='{"cluster": {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TFDIST_RENDEZVOUS_TIMEOUT=30 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    PYTHONHASHSEED=0 \
    GRPC_FAIL_FAST=use_caller \
    TF_NUM_INTRAOP_THREADS=3 \
    OMP_NUM_THREADS=3 \
    py -m tfdist.training.autoplug -m package.module --flag

# worker:1
env -u TFDIST_CLUSTER -u TFDIST_TASK \
    TF_CONFIG='{"cluster": {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}, "task": {"type": "worker", "index": 1}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TFDIST_RENDEZVOUS_TIMEOUT=30 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    PYTHONHASHSEED=0 \
    GRPC_FAIL_FAST=use_caller \
    TF_NUM_INTRAOP_THREADS=3 \
    OMP_NUM_THREADS=3 \
    py -m tfdist.training.autoplug -m package.module --flag

# ps:0
env -u TFDIST_CLUSTER -u TFDIST_TASK \
    TF_CONFIG='{"cluster": {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}, "task": {"type": "ps", "index": 0}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TFDIST_RENDEZVOUS_TIMEOUT=30 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    PYTHONHASHSEED=0 \
    GRPC_FAIL_FAST=use_caller \
    py -m tfdist.training.autoplug -m package.module --flag

# evaluator:0
env -u TFDIST_CLUSTER -u TFDIST_TASK \
    TF_CONFIG='{"cluster": {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}, "task": {"type": "evaluator", "index": 0}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TFDIST_RENDEZVOUS_TIMEOUT=30 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    PYTHONHASHSEED=0 \
    GRPC_FAIL_FAST=use_caller \
    py -m tfdist.training.autoplug -m package.module --flag
