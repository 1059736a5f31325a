"""Whether this installation is sound, and what to do if it is not: `python -m detecture.doctor`.

Nothing in here imports torch, numpy or anything else that may be broken before its own check runs.
`from __future__ import annotations` is used everywhere so that a Python that is too old gets the
finding that says so, not a TypeError.
"""
