"""Counts and timings of the Detecture model: what the tools analyze_model and benchmark_speed say.

Import from the modules; this package imports none of them, as they load transformers.
"""
