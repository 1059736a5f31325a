"""Files of an evaluation, changed as somebody may who knows what a digest is, or who has none."""

import json

from detecture.checkpoint.json_files import DIGEST, seal
from detecture.evaluation.record_lines import header_line, record_line


def read_lines(path):
    """Header and records of a records file, without their digests."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != DIGEST} for line in lines]


def write_lines(path, lines):
    """A records file as it was before lines had digests."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_sealed(path, lines):
    """A records file as an evaluation writes it."""
    header, *records = lines
    fingerprint = header["fingerprint"]
    text = [header_line(fingerprint), *(record_line(one, fingerprint) for one in records)]
    path.write_text("".join(text), encoding="utf-8")


def write_summary(path, **changes):
    """Change values of a summary, with a digest that goes with them."""
    summary = {k: v for k, v in json.loads(path.read_text()).items() if k != DIGEST}
    path.write_text(json.dumps(seal(summary | changes)))
