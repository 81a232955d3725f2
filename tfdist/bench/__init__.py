"""`tfdist bench`: the speed on 1, 2, ..., N workers, where it goes, and what more would bring.

`bench_command.py`: the command: its options, and the refusal of a call without a script or --model.
`runner.py`: one job after the other for each number of workers; "the job of N workers failed";
    where bench.json, .txt and .png go.
`worker.py`: the program of each task: which `fit` is timed, for how long, the rows of a
    step, which all-reduces are timed after it, and when it ends ("too few to measure").
`update_time.py`: how long the optimizer takes for all weights by itself, and why that is not known.
`builtin.py`: the models of `--model tiny|mlp|cnn|lstm`, 64 examples a step on each worker.
`measured.py`: what bench.json holds; "N of M workers have measured something". Pure.
`model.py`: the alpha-beta model: what a step takes on N workers, and which options would pay (from
    5 % on). Pure.
`other_ways.py`: what parameter servers, pipelines and the like would bring, with and without a slow
    worker. Pure.
`report.py`: the text: which numbers of workers are predicted (4 to 512), its tables and advice.
    Pure.
`plot.py`: bench.png, where matplotlib is installed.
"""
