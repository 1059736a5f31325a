"""The published data sets and the shipped samples, registered when `detecture.data` is imported."""

from pathlib import Path

from detecture.d2 import MetadataCatalog
from detecture.data.datasets.register import register_texture_dataset
from detecture.data.paths import DATASETS_ROOT
from detecture.errors import DatasetError
from detecture.untrusted import read_json

_TABLE = Path(__file__).with_suffix(".json")
# Of a source checkout; an installed package has no samples.
_SAMPLES = Path(__file__).resolve().parents[3] / "datasets" / "samples"


def register_builtin_datasets() -> None:
    """Register every data set of `builtin.json`, and `samples` where the folder is there.

    Metadata of a published set also holds `published_images` and `published_textures`, the sizes
    of the release, for `tools/check_dataset.py`.
    """
    for name, entry in read_json(_TABLE, DatasetError).items():
        root = f"${DATASETS_ROOT}/{entry['folder']}"
        register_texture_dataset(
            name,
            f"{root}/{entry.get('metadata', 'metadata.json')}",
            root,
            k_regime=entry["k_regime"],
            subject=entry.get("subject", ""),
        )
        published = {key: value for key, value in entry.items() if key.startswith("published_")}
        MetadataCatalog.get(name).set(**published)
    if (_SAMPLES / "metadata.json").is_file():
        register_texture_dataset("samples", str(_SAMPLES / "metadata.json"), str(_SAMPLES))
