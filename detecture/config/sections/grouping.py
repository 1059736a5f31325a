"""TextureClusters and TextureGrouping: regions found by grouping pixels."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, section
from detecture.errors import ConfigError, brief


@section("MODEL.TEXTURE_CLUSTERS", "K-means on classical features, without training.")
@dataclass(frozen=True, kw_only=True)
class TextureClustersSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    working_size: int = key(
        256, "Longer side in pixels that an image is resized to before anything else.", above=0
    )
    gabor_wavelengths: tuple[float, ...] = key(
        (4.0, 8.0, 16.0),
        "Wavelengths of the Gabor filters, in pixels of the working size.",
        above=0,
    )
    gabor_orientations: int = key(
        4, "Number of evenly spread directions of the Gabor filters.", above=0
    )
    smoothing: float = key(
        6.0,
        "Standard deviation of the Gaussian over every feature, in pixels of the working size.",
        above=0,
    )
    color_weight: float = key(1.5, "Weight of the standardised Lab colour.")
    deviation_weight: float = key(1.0, "Weight of the local deviation of the colour.")
    gabor_weight: float = key(0.7, "Weight of the energy of the Gabor filters.")
    position_weight: float = key(0.7, "Weight of the position in the image.")
    k_range: tuple[int, int] = key(
        (2, 6), "Least and greatest number of regions to choose from where it is unknown."
    )
    restarts: int = key(4, "K-means runs from different starts; the best counts.", above=0)
    seed: int = key(0, "Seed of the starts.")

    def check(self) -> None:
        """Refuse a range of K that is none."""
        if len(self.k_range) != 2 or not 2 <= self.k_range[0] <= self.k_range[1]:
            raise ConfigError(
                f"MODEL.TEXTURE_CLUSTERS.K_RANGE: {brief(self.k_range)} is no range; give the "
                "least (2 or more: one region has no silhouette) and the greatest number of regions"
            )


@section("MODEL.GROUPING", "TextureGrouping: its nets, and how it finds regions.")
@dataclass(frozen=True, kw_only=True)
class GroupingSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    widths: tuple[int, int, int, int] = key(
        (24, 48, 96, 160), "Channels of the net's stages at strides 2, 4, 8 and 16."
    )
    channels: int = key(48, "Channels of the embedding.")
    attention_blocks: int = key(2, "Transformer blocks at stride 16.")
    nets: int = key(
        1,
        "Nets of this form, each trained by itself; tools/package_model.py joins them. SCALES are "
        "dealt out to them.",
        least=1,
    )
    working_size: int = key(
        256, "Longer side in pixels that an image is resized to before anything else.", least=16
    )
    scales: tuple[float, ...] = key(
        (1.0, 1.25), "Embeddings are averaged over views of these scales.", above=0
    )
    flip: bool = key(True, "Show each view also mirrored.")
    use_net: bool = key(True, "Leave the embeddings out (False), for comparison.")
    classical_weights: tuple[float, ...] = key(
        (0.1, 0.25, 0.5, 1.0),
        "Weights of the classical features beside the embedding, one mixture each; (0.0,) leaves "
        "them out.",
        least=0,
    )
    position_weight: float = key(0.1, "Weight of the position in the image.")
    components: tuple[int, ...] = key(
        (12, 20), "Numbers of principal components, one mixture each.", above=0
    )
    starts: int = key(6, "Starts of every mixture, of which the likeliest counts.", least=1)
    filter_radius: int = key(4, "Radius in pixels of the guided filter over the scores; 0: none.")
    filter_epsilon: float = key(
        0.001, "Variance of the image, 0..1, below which that filter takes a window for flat."
    )
    describe: bool = key(True, "Describe every region with the VLM (MODEL.VLM, MODEL.DESCRIBER).")

    def check(self) -> None:
        """Refuse what leaves nothing to find regions by, and nets without a scale."""
        if self.nets > len(self.scales):
            raise ConfigError(
                f"MODEL.GROUPING.NETS {self.nets}: 1 to {len(self.scales)}, as many as there are "
                "MODEL.GROUPING.SCALES"
            )
        if not self.use_net and not any(self.classical_weights):
            raise ConfigError(
                "MODEL.GROUPING.USE_NET is False and all CLASSICAL_WEIGHTS are 0: nothing is left "
                "to find regions by"
            )
