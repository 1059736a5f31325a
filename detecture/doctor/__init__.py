"""Whether this installation is sound, and what to do where it is not: `python -m detecture.doctor`.

Nothing in here imports torch, numpy or anything else that may be broken before the check that is
about it runs. `from __future__ import annotations` everywhere: a Python that is too old shall get
the finding that says so, not a TypeError.
"""
