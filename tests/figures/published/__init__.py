"""Scaling tables that others have published, as golden data, each with its source."""
