#!/usr/bin/env python
"""Convert checkpoints: a published one into an adapter, an adapter into a plain VLM.

  python tools/convert_checkpoint.py published best.pt --output adapter.safetensors \\
      --config-file configs/detecture_qwen3vl8b_sam3.yaml --prompts prompts.yaml
  python tools/convert_checkpoint.py merge adapter.safetensors --output merged \\
      --config-file configs/detecture_qwen3vl8b_sam3.yaml

published: takes what was trained, and of the two vocabulary tables the row of <|seg|> alone. The
adapter is then MODEL.WEIGHTS of the same config.
merge: writes a folder for MODEL.VLM.BASE; with MODEL.VLM.TRAIN none and MODEL.WEIGHTS
<folder>/bridge.safetensors it predicts what the unmerged model does. Needs the base VLM, and as
much memory and disk as it has weights.
Overrides (KEY VALUE ..) may stand behind the options. Exit status: 0 done, 2 wrong input.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from detecture.conversion.merge import merge_adapter
from detecture.conversion.published import (
    Adapter,
    import_published,
    require_free_output,
    write_weights,
)
from detecture.conversion.wording import load_wording
from detecture.errors import ConfigError
from detecture.jobs.command_line import command_line

KNOWN_MD5 = {"1f69377996e487fdc6b70120a42d2b4f": "best.pt"}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    published = commands.add_parser("published", help="a published checkpoint into an adapter")
    published.add_argument("input", metavar="INPUT.pt", help="best.pt or detecture_epoch23.pt")
    merge = commands.add_parser("merge", help="an adapter into its VLM")
    merge.add_argument("input", metavar="ADAPTER", help="a .safetensors file of this project")
    for command, made in ((published, "adapter (.safetensors)"), (merge, "folder")):
        command.add_argument("--output", required=True, metavar="PATH", help=f"{made} to write")
        command.add_argument("--config-file", required=True, metavar="FILE", help="of the model")
        command.epilog = "KEY VALUE ..: overrides of the config"
    published.add_argument(
        "--prompts",
        metavar="FILE",
        help="wording that the checkpoint was trained with: a yaml that you write from the "
        "release's texts (system, user, assistant_line, assistant_join, seg_token, "
        "warm_start_token; docs/detecture.md says where each stands), or a Python source that has "
        "them as string constants, which are read and not run (the release's has not)",
    )
    published.add_argument(
        "--seg-id", type=int, metavar="ROW", help="row of <|seg|> (default: the last one)"
    )
    published.add_argument(
        "--lora-alpha",
        type=float,
        help="of the adapters (default: MODEL.VLM.LORA.ALPHA, 16 as in the release's training)",
    )
    published.add_argument(
        "--verify", action="store_true", help="compare the MD5 with those of the released files"
    )
    return parser


@command_line("convert_checkpoint")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args, overrides = parser.parse_known_args(argv)
    if unknown := [word for word in overrides if word.startswith("--")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if args.command == "published":
        _published(args, overrides)
    else:
        _merge(args, overrides)
    return 0


def _published(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    if args.prompts is None:
        raise ConfigError(
            "--prompts is missing: a checkpoint answers only to the wording it was trained on, and "
            "the published files do not hold it. Write it into a yaml and give that; "
            "docs/detecture.md says where each text stands in the release"
        )
    source, output = Path(args.input), Path(args.output)
    if output.suffix != ".safetensors":
        raise ConfigError(f"--output {output}: the name must end in .safetensors")
    require_free_output(output, "file")
    prompts = load_wording(Path(args.prompts))
    if args.verify and source.is_file():
        md5 = _md5(source)
        known = KNOWN_MD5.get(md5)
        print(f"MD5 {md5}: {f'the released {known}' if known else 'of no released file we know'}")
    adapter = import_published(
        source,
        args.config_file,
        overrides,
        prompts,
        seg_id=args.seg_id,
        lora_alpha=args.lora_alpha,
    )
    digest = write_weights(output, adapter.tensors, adapter.header)
    _print_table(adapter)
    for key, value in adapter.header["published"].items():
        print(f"{key}: {value}")
    for note in adapter.notes:
        print(f"note: {note}")
    print(f"written: {output}, {output.stat().st_size:,} bytes, SHA-256 {digest}")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # the digest that identifies the release
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _print_table(adapter: Adapter) -> None:
    print(f"{'part':<12}{'tensors':>9}{'parameters':>13}{'bytes':>13}")
    for part, names in {**adapter.parts, "total": list(adapter.tensors)}.items():
        tensors = [adapter.tensors[name] for name in names]
        parameters = sum(tensor.numel() for tensor in tensors)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        print(f"{part:<12}{len(tensors):>9,}{parameters:>13,}{size:>13,}")


def _merge(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    folder = Path(args.output)
    merged = merge_adapter(Path(args.input), args.config_file, overrides, folder)
    print(f"low-rank adapters merged: {merged.adapters}; seg rows written: {merged.rows}")
    print(f"written: {folder}; {merged.bridge.name} SHA-256 {merged.sha256}")
    print(
        f"use: MODEL.VLM.BASE {folder} MODEL.VLM.TRAIN none MODEL.WEIGHTS {merged.bridge} (and "
        "the same config)"
    )


if __name__ == "__main__":
    sys.exit(main())
