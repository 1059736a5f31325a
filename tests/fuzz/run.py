"""The runner: see `python -m tests.fuzz.run --help`, and the top of this package."""

import argparse
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.fuzz.case import SEED, load_targets, shares
from tests.fuzz.judge import MOST_SECONDS, Outcome, judge, memory

REPO = Path(__file__).resolve().parents[2]
_START_SECONDS = 300.0
_GRACE_SECONDS = 10.0  # a worker's own alarm says more than the watchdog can
_SLOWEST = 10


class Worker:
    """A worker process; started when it is first needed, and anew after one that ended."""

    def __init__(self, log):
        self._log = log
        self._process = None
        self._rest = b""

    def run(self, target, number, seed, folder):
        """The outcome of a case, whatever becomes of the process."""
        if self._process is None:
            self._start()
        task = {"target": target, "number": number, "seed": seed, "folder": str(folder)}
        begun = time.monotonic()
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
            self._line(MOST_SECONDS)
            return Outcome(**self._line(MOST_SECONDS + _GRACE_SECONDS))
        except TimeoutError:  # an OSError, too
            text = f"no end within {MOST_SECONDS:.0f} s"
        except (OSError, EOFError):
            code = self._process.wait()
            tail = self._log.read_text(errors="replace")[-3000:] if self._log.is_file() else ""
            text = f"the process ended ({code}): {tail}"
        self.close()
        return Outcome(target, number, "fault", text, time.monotonic() - begun)

    def close(self):
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def _start(self):
        self._rest = b""
        environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
            "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=REPO,
                env=environment,
            )
        try:
            self._line(_START_SECONDS)
        except EOFError:
            raise RuntimeError(f"a worker does not start: {self._log.read_text()}") from None

    def _line(self, seconds):
        deadline = time.monotonic() + seconds
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError
            found = os.read(descriptor, 1 << 16)
            if not found:
                raise EOFError
            self._rest += found
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def run_cases(cases, seed, workers, output, tell=print):
    """Run cases in worker processes; the faults' folders stay in `output`.

    Args:
        cases: (name of a target, number) of each.
        seed: of all.
        workers: processes.
        output: folder.
        tell: takes a line about each fault as it comes.

    Returns:
        All outcomes.
    """
    output.mkdir(parents=True, exist_ok=True)
    todo = queue.SimpleQueue()
    for case in cases:
        todo.put(case)
    outcomes, troubles = [], []

    def work(index):
        worker = Worker(output / f"worker{index}.log")
        try:
            while True:
                name, number = todo.get_nowait()
                outcome = worker.run(name, number, seed, output / f"{name}-{number}")
                outcomes.append(outcome)
                if len(outcomes) % 1000 == 0:
                    tell(f"{len(outcomes)} of {len(cases)} cases")
                if outcome.kind == "fault":
                    tell(told(outcome))
        except queue.Empty:
            pass
        except BaseException as error:
            troubles.append(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]
    return outcomes


def told(outcome):
    """A fault in words: the last line of its traceback, and where in the project it was."""
    lines = outcome.text.strip().splitlines() or [""]
    places = [line.strip() for line in lines if line.strip().startswith("File ")]
    own = [line for line in places if "/detecture/" in line] or places
    where = f"  [{own[-1][:160]}]" if own else ""
    return f"FAULT {outcome.target} {outcome.number}: {lines[-1][:400]}{where}"


def planned(targets, cases):
    """(name, number) of so many cases, the targets by turns."""
    counts = shares(targets, cases)
    most = max(counts.values())
    return [(name, n) for n in range(most) for name, count in counts.items() if n < count]


def report(outcomes):
    """The lines at the end: counts of each target, and the slowest cases."""
    lines = []
    for name in sorted({one.target for one in outcomes}):
        own = [one for one in outcomes if one.target == name]
        kinds = {k: sum(one.kind == k for one in own) for k in ("right", "refused", "fault")}
        seconds = sum(one.seconds for one in own)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        grown = max(one.growth for one in own) >> 20
        lines.append(f"{name:24} {len(own):5} cases: {counts}; {seconds:.1f} s, up to {grown} MB")
    slowest = sorted(outcomes, key=lambda one: -one.seconds)[:_SLOWEST]
    lines.append(f"the {len(slowest)} slowest:")
    lines += [f"  {o.seconds:7.2f} s  {o.target} {o.number}  {o.growth >> 20} MB" for o in slowest]
    return lines


def main():
    """Run cases; ends with 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", help="only this one; may be given again")
    parser.add_argument("--case", type=int, help="only this number, in this process")
    parser.add_argument("--cases", type=int, default=1500, help="of all targets (default: 1500)")
    parser.add_argument("--seed", default=SEED, help=f"default: {SEED}")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--output", type=Path, help="where the inputs of faults are kept")
    parser.add_argument("--list", action="store_true", help="list the targets")
    options = parser.parse_args()
    targets = load_targets()
    if options.list:
        for name, one in targets.items():
            print(f"{name:24} {one.about}")
        return 0
    if unknown := set(options.target or ()) - set(targets):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(targets)}")
    targets = {name: targets[name] for name in options.target or targets}
    output = (options.output or Path(tempfile.mkdtemp(prefix="fuzz-"))).absolute()
    if options.case is not None:
        outcomes = [
            judge(
                one, options.case, options.seed, output / f"{name}-{options.case}", memory("VmRSS")
            )
            for name, one in targets.items()
        ]
        for one in outcomes:
            print(f"{one.target} {one.number}: {one.kind}\n{one.text}")
    else:
        start = time.monotonic()
        outcomes = run_cases(planned(targets, options.cases), options.seed, options.workers, output)
        print("\n".join(report(outcomes)))
        print(f"{len(outcomes)} cases in {time.monotonic() - start:.0f} s")
    faults = sum(one.kind == "fault" for one in outcomes)
    print(f"{faults} faults; inputs in {output}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
