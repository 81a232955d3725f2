"""tfdist in a notebook: `run` calls a function as a job, `%%tfdist` runs a cell as one.

    %load_ext tfdist

    %%tfdist --workers 2 -i images,labels -o history
    strategy = tfdist.strategy()
    ...
    history = model.fit(images, labels).history
"""

from __future__ import annotations

from tfdist.functions.run_function import run

__all__ = ["run"]
