"""Real scripts on real data: `tfdist run --workers 2 -m tfdist.examples.digits`.

They use only tfdist's public face and are meant to be copied.

`digits.py`: a convolutional network on digits; runs under each strategy.
`resnet.py`: a residual network, with images changed at random by layers.
`denoise.py`: an autoencoder on digits.
`spam.py`: a feed-forward network on tables.
`sunspots.py`: a recurrent network on a series.
`gpt.py`: a small transformer that writes text.
`finetune.py`: LoRA on a vision transformer of keras_hub.
`recommender.py`: embeddings that are sharded over parameter servers.
`two_towers.py`: a loss that looks across the batch (`tfdist.gather_batch`).
`deep_stack.py`: a model that is too large for one process, in a pipeline.
`data.py`: the digits, e-mails and other data that come with packages.
`descriptions.py`: texts of R's packages.
`ratings.py`: ratings of movies.
`settings.py`: the flags that the examples share.
"""
