"""Numbers that a job may have, for property tests."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from tfdist.scaling.link import Link

patient = settings(deadline=None)  # machines may be busy
workers = st.integers(1, 600)
sizes = st.floats(0, 1e10)
latencies = st.floats(0, 1e-1)
bandwidths = st.floats(1e4, 1e12)
links = st.builds(Link, latencies, bandwidths)
