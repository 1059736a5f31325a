"""A process that runs cases: one line of JSON in for each, two lines out, its begin and its end."""

import faulthandler
import json
import os
import resource
import sys
from pathlib import Path

from tests.fuzz.case import load_targets
from tests.fuzz.judge import clear, judge, memory, watch_writes

_ROOM = 3 << 30  # of addresses above those after the imports: a bomb ends its case, not the machine
_MOST_FILE = 256 << 20


def main():
    """Read `{"target", "number", "seed", "folder"}` until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes where errors go
    faulthandler.enable()
    targets = load_targets()
    baseline = memory("VmRSS")
    size = memory("VmSize") + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_FILE, _MOST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch_writes()
    print(json.dumps({"ready": baseline}), file=out, flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps({"begin": told["number"]}), file=out, flush=True)
        folder = Path(told["folder"])
        outcome = judge(targets[told["target"]], told["number"], told["seed"], folder, baseline)
        if outcome.kind != "fault":
            clear(folder)
        print(json.dumps(outcome.to_dict()), file=out, flush=True)


if __name__ == "__main__":
    main()
