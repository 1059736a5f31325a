"""Hostile input to everything that reads a file or a text of a user, by seeds.

    python -m tests.fuzz.run                                  # all targets, 1,500 cases
    python -m tests.fuzz.run --cases 15000 --workers 2        # what DETECTURE_LONG_TESTS=1 runs
    python -m tests.fuzz.run --target config --case 1234      # one case again, in this process
    python -m tests.fuzz.run --list                           # the targets, and what each reads

A target (`tests/fuzz/targets/`) writes an input, in most cases damaged, gives it to a loader of the
project, and checks what comes back. Case n of target t follows from
`random.Random(f"{seed}/{t}/{n}")` and nothing else. What it is judged by stands in `judge.py`:

- the right result, or a `DetectureError` with a text of at most 2 kB; an input that stayed valid
  must not be refused;
- no other exception, no end of the process, no more than 60 s, no more than 1 GB of memory;
- nothing is written outside of the case's folder, no program run, no connection opened;
- what is loaded satisfies the target's own invariants: a round trip, ids that are unique, paths
  below their root, masks of the image's size, values in range.

Cases run in worker processes (`worker.py`), so that one that ends its process is reported and the
others go on. A fault prints its target and number, and its folder, with the input in it, is kept.

Files: `case.py` what a case is, `mutators.py` damage, `inputs.py` how damaged input is written,
`judge.py` the rules, `worker.py` and `run.py` the processes, `test_fuzz.py` the tiers.
"""
