"""Jobs for schedulers: rendered, handed in, followed."""
