"""`tools/train_net.py` with the toy models registered, as a user's own training script would be."""

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import staged_toy  # noqa: F401 - registers the toy model with stages
import toy  # noqa: F401 - registers the toy model

from detecture.engine import argument_parser, run

spec = importlib.util.spec_from_file_location(
    "train_net", Path(__file__).parents[1] / "tools/train_net.py"
)
train_net = importlib.util.module_from_spec(spec)
sys.modules["train_net"] = train_net
spec.loader.exec_module(train_net)

if __name__ == "__main__":
    sys.exit(run(train_net.main, argument_parser().parse_args()))
