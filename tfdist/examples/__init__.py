"""Real scripts on real data: `tfdist run --workers 2 -m tfdist.examples.digits`.

They use only tfdist's public face and are meant to be copied.
"""
