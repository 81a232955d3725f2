"""Breaks the pure rooms on purpose, one small change at a time, and sees whether a test notices."""
