# worker:0
env \
    TF_CONFIG='{"cluster": {"worker": ["127.0.0.1:2000", "127.0.0.1:2001"]}, "task": {"type": "worker", "index": 0}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    TF_NUM_INTRAOP_THREADS=2 \
    OMP_NUM_THREADS=2 \
    py train.py --name 'it'"'"'s a test' --cluster x

# worker:1
env \
    TF_CONFIG='{"cluster": {"worker": ["127.0.0.1:2000", "127.0.0.1:2001"]}, "task": {"type": "worker", "index": 1}}' \
    TFDIST_LAUNCHED=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    TF_NUM_INTRAOP_THREADS=2 \
    OMP_NUM_THREADS=2 \
    py train.py --name 'it'"'"'s a test' --cluster x
