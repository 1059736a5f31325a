"""The describer: the VLM shown one region at a time."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, section


@section("MODEL.DESCRIBER", "The describer: the VLM (MODEL.VLM) shown one region at a time.")
@dataclass(frozen=True, kw_only=True)
class DescriberSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    regions_per_image: int = key(3, "Regions drawn from each training image, at most.", least=1)
    mask_noise: float = key(
        0.6,
        "Share of the training masks that are disturbed (shifted, grown, shrunk, frayed), because "
        "masks that a model finds are not exact.",
        least=0,
        greatest=1,
    )
    texture: bool = key(
        False,
        "Also tell the VLM what a convolutional net makes of each region's texture: probabilities "
        "of families and attributes, as a vector that is added to all embeddings of its text.",
    )
    texture_widths: tuple[int, ...] = key(
        (24, 48, 96, 160),
        "Channels of that net's stages at strides 2, 4, 8 and 16; multiples of 8.",
    )
    texture_weights: str = key(
        "",
        "Checkpoint of TextureClassifier, or of TextureGrouping, whose net it starts from when it "
        "is built for training; empty: random.",
    )
