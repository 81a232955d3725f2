"""The epoch loop, once for every family: what it asks of a family, chunks of steps, callbacks.

`epoch_loop.py`: `fit`, `evaluate`, `predict`: the order of epochs, steps, validation and callbacks;
    `verbose`: Keras' bar, on the chief alone; how workers take over what the chief has restored.
`family.py`: what a family of strategies is: the interface of `FamilyKind` and `Family`.
`callback_routing.py`: which callbacks run on the chief alone (`chief_only`, those that only write),
    and which want every batch, so that chunks are one step long: those with a hook of batches, but
    for `chunks_will_do`, by TensorBoard's update_freq, by a save_freq.
`compiled_as.py`: other losses, metrics or learning rates than in the run that wrote a checkpoint.
`chunking.py`: how many steps run before Python looks up (about 0.25 s of them),
    `steps_per_execution`.
`call_agreement.py`: whether all workers are about to do the same; "called fit with different
    arguments".
`prediction.py`: what `predict` asks of a family, and outputs that it cannot put in order.
`made_for.py`: a callback that compiles the model while `fit` runs.
`fit_progress.py`: how far a `fit` is, told to the launcher.
`keeper.py`: how often a state is kept: `every`, `every_steps`, `every_secs`; who hears of it.
`saving.py`: when a state is kept, how a signal's end is, what is left out as too large (above 32 MB
    a worker), and how another `fit` goes on in an epoch's middle.
`preemption.py`: which signals (SIGTERM, SIGUSR1, SIGUSR2, Ctrl-C under `tfdist run`) ask for an end
    that saves first; a second Ctrl-C.
`job_state.py`: what a state holds beside the variables, and its bytes.
`callback_state.py`: what callbacks remember: EarlyStopping's, `get_state` and `set_state`.
"""
