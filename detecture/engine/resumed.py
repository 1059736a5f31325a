"""How a resumed training differs from the run that it continues."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detecture.checkpoint.search import find_checkpoint
from detecture.checkpoint.shipped import locate
from detecture.config.idle import leaves
from detecture.d2 import CfgNode
from detecture.engine.run_folder import is_of_a_run
from detecture.errors import CheckpointError, ConfigError, brief
from detecture.untrusted import parse_yaml

logger = logging.getLogger(__name__)

_SECTIONS = ("DATALOADER", "DATASETS", "INPUT", "LOSS", "MODEL", "SOLVER")
_WITHOUT_EFFECT = {
    *("DATALOADER.NUM_WORKERS", "DATASETS.TEST", "MODEL.DEVICE", "MODEL.WEIGHTS"),
    *("SOLVER.CHECKPOINT_PERIOD", "SOLVER.KEEP_CHECKPOINTS", "SOLVER.LOG_PERIOD"),
}
"""Keys of those sections that change nothing in training from a checkpoint on."""


def warn_of_changes(cfg: CfgNode, before: str) -> None:
    """Log each key whose changed value makes the run turn out differently than it would have.

    Args:
        cfg: of this training, with every length in iterations.
        before: the config in a checkpoint, as yaml; empty if it holds none.
    """
    try:
        content = parse_yaml(before, "the config in the checkpoint", ConfigError)
        now = parse_yaml(cfg.dump(), "the config", ConfigError)
    except ConfigError as error:
        logger.warning("what has changed since cannot be told: %s", error)
        return
    if not isinstance(content, dict):
        return
    then = dict(leaves(content))
    for key, value in leaves({name: now[name] for name in _SECTIONS}):
        if key in then and then[key] != value and key not in _WITHOUT_EFFECT:
            logger.warning(
                "--resume goes on with another %s: %s now, %s in the checkpoint. The run will not "
                "be what either would have been; set it back, or start anew without --resume",
                *(key, brief(value), brief(then[key])),
            )


def data_of(records: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, str]:
    """The number of records of each data set and a digest of them, as text, by data set name.

    Only the names of files count, so that a set may be moved. Records made on the fly are only
    counted.
    """
    return {name: _told(own) for name, own in records.items()}


def _told(records: Sequence[dict[str, Any]]) -> str:
    if not isinstance(records, list):
        return f"{len(records)} records"
    digest = hashlib.sha256()
    for record in records:
        textures = [(t.get("description"), _name(t, "mask_file")) for t in _textures(record)]
        files = (_name(record, "file_name"), _name(record, "sem_seg_file_name"))
        digest.update(repr((record.get("image_id"), files, textures)).encode("utf-8", "replace"))
    return f"{len(records)} records ({digest.hexdigest()[:12]})"


def _name(values: Mapping[str, Any], key: str) -> str:
    return Path(str(values.get(key, ""))).name


def _textures(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return record.get("textures") or ()


def warn_of_other_data(now: Mapping[str, str], before: Any) -> None:
    """Log the training sets whose records have changed.

    Args:
        now: what `data_of` returned.
        before: the same, read from a checkpoint; anything else is ignored.
    """
    for name, told in now.items():
        then = before.get(name, told) if isinstance(before, Mapping) else told
        if then != told:
            logger.warning(
                "--resume goes on with other data: %s has %s now, %s in the checkpoint. Which "
                "samples come, and when an epoch ends, is not as it would have been",
                *(name, told, brief(then)),
            )


def refuse_weights_of_own_folder(weights: str, folder: Path) -> None:
    """Check that MODEL.WEIGHTS of a new training does not name a file that it would replace.

    Files that an earlier run left in OUTPUT_DIR are set aside, after which the same path means
    another file: neither this run's `config.yaml` nor its command would tell what it started from.

    Raises:
        ConfigError: it names such a file.
    """
    if not weights:
        return
    try:
        file = find_checkpoint(locate(weights)).resolve()
    except CheckpointError:
        return  # reported when it is loaded
    if file.is_file() and is_of_a_run(file.name) and file.parent == folder.resolve():
        raise ConfigError(
            f"MODEL.WEIGHTS {weights}: is of the run in OUTPUT_DIR, which a new training sets "
            "aside; the name would mean another file afterwards. Use --resume to go on with that "
            "run, give another OUTPUT_DIR, or copy the file out of it first"
        )
