"""What every method has."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, section


@section("MODEL", "What every method has.")
@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    meta_architecture: str = key(
        "TextureClusters", "The method, by its registered name; the default needs no weights."
    )
    device: str = key(
        "auto",
        "`auto`, the best device of this machine; or `cpu`, `mps`, or an accelerator by its torch "
        "name.",
    )
    dtype: str = key(
        "float32",
        "Number format of frozen backbones; `float64` is for tests of exactness.",
        choices=("bfloat16", "float32", "float64"),
    )
    random_weights_seed: int = key(
        0,
        "Seed of the random weights of a backbone that is built without weights, and of all parts "
        "where nothing trains. What is frozen is never saved, so the seed must give it again.",
    )
    max_regions: int = key(
        6,
        "Greatest number of regions of methods that find them one by one, where it is unknown. "
        "Further ones that the VLM of Detecture writes are left out in any case.",
        least=1,
    )
    feature_cache: str = key(
        "",
        "Folder that keeps what frozen parts compute of each image, between epochs and runs; "
        "empty: nothing is kept. Only where the segmenter (or, in stage 1, the VLM) is frozen.",
    )
