#!/usr/bin/env python
"""Train or evaluate whatever a config describes.

  python tools/train_net.py --config-file configs/baselines/texture_clusters.yaml --eval-only
  python tools/train_net.py --config-file FILE --eval-only DATASETS.TEST '("rwtd",)' OUTPUT_DIR out
  python tools/train_net.py --config-file FILE --num-gpus 2 --resume
  torchrun --nproc-per-node 2 tools/train_net.py --config-file FILE

An evaluation that was cut off goes on where it stopped when it is started again. An image that
fails ends no evaluation: it counts as docs/usage.md says, and the last line says how many failed.
Exit status: 0 done, 1 failed (also when TEST.EXPECTED_RESULTS are missed), 2 wrong input.
"""

import argparse
import sys

from detecture.d2 import comm, verify_results
from detecture.engine import Trainer, argument_parser, evaluate, load_model, run, setup


def main(args: argparse.Namespace) -> None:
    """Run in every process."""
    cfg = setup(args)
    if args.eval_only:
        results = evaluate(cfg, load_model(cfg))
        if comm.is_main_process():
            verify_results(cfg, results)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    sys.exit(run(main, argument_parser(__doc__).parse_args()))
