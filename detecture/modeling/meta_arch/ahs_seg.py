"""AHS-Seg: CAT-Seg with up to six parts, each a switch of the config.

With every switch off it is CAT-Seg. What each part is, what was published and what it does here
stands at its own place: HA-HEM in `clip/orthogonal.py`, the others in `modeling/ahs/`. All act
alike in training, on whole images and in windows, and change nothing before they are trained.

Legend: B images, T names, P templates, E width of the common space, G grid, H, W size of an image,
S side of what CLIP sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from detecture.config.sections.semantic import (
    AdaptiveEnergySettings,
    ClassProjectionSettings,
    ClipSettings,
    DistillationSettings,
    PrototypeSettings,
    RectificationSettings,
    SphericalFpnSettings,
)
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable, get_event_storage
from detecture.errors import ConfigError
from detecture.modeling.ahs.boundary import boundary_loss
from detecture.modeling.ahs.class_projection import ClassProjection
from detecture.modeling.ahs.distillation import distillation_loss, distillation_weight
from detecture.modeling.ahs.patch_labels import patch_labels
from detecture.modeling.ahs.prototypes import Prototypes
from detecture.modeling.ahs.rectification import Rectification
from detecture.modeling.ahs.spherical_fpn import SphericalFpn
from detecture.modeling.clip.build import orthogonal_adapter
from detecture.modeling.clip.encoder import ClipEncoder, DenseFeatures
from detecture.modeling.clip.orthogonal import Modulation, OrthogonalAdapter
from detecture.modeling.clip.teacher import Teacher
from detecture.modeling.meta_arch.cat_seg import CATSeg, Compared, Encoded
from detecture.modeling.meta_arch.region_means import RegionMeans


@dataclass(frozen=True)
class AHSSettings:
    """The switches and weights of all parts."""

    energy: AdaptiveEnergySettings = field(default_factory=AdaptiveEnergySettings)
    fpn: SphericalFpnSettings = field(default_factory=SphericalFpnSettings)
    projection: ClassProjectionSettings = field(default_factory=ClassProjectionSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    rectification: RectificationSettings = field(default_factory=RectificationSettings)
    prototypes: PrototypeSettings = field(default_factory=PrototypeSettings)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "AHSSettings":
        """Of a config."""
        return cls(
            AdaptiveEnergySettings.from_config(cfg),
            SphericalFpnSettings.from_config(cfg),
            ClassProjectionSettings.from_config(cfg),
            DistillationSettings.from_config(cfg),
            RectificationSettings.from_config(cfg),
            PrototypeSettings.from_config(cfg),
        )


@META_ARCH_REGISTRY.register()
class AHSSeg(CATSeg):
    """CAT-Seg and the parts that are on."""

    @configurable
    def __init__(
        self,
        *,
        parts: AHSSettings | None = None,
        region_means: RegionMeans | None = None,
        **arguments: Any,
    ) -> None:
        """Join the parts.

        Args:
            parts: which are on.
            region_means: averages scores over regions, in evaluation.
            arguments: see `CATSeg`; an adapter brings HA-HEM with it, and the head must have a
                further cost channel where classes are projected.

        Raises:
            ConfigError: a part needs what is not there.
        """
        super().__init__(**arguments)
        clip: ClipEncoder = self.clip
        # In a tuple, as it is no part of the checkpoints.
        self._region_means = (region_means,)
        self.parts = parts = parts or AHSSettings()
        width = clip.embed_width
        self.fpn = self.projection = self.rectification = self.prototypes = self.teacher = None
        self.levels: tuple[int, ...] = ()
        if parts.fpn.enabled:
            self.levels = _levels(parts.fpn.levels, clip)
            self.fpn = SphericalFpn(clip.width, width, len(self.levels), parts.fpn.fusion)
        if parts.projection.enabled:
            self.projection = ClassProjection(width, parts.projection.rank)
        if parts.rectification.enabled:
            self.rectification = Rectification(width)
        if parts.prototypes.enabled:
            vocabulary = self.vocabularies[0]
            if vocabulary is None:
                raise ConfigError(
                    "MODEL.PROTOTYPES needs the classes of the training: set MODEL.VOCABULARY.TRAIN"
                )
            self.prototypes = Prototypes(len(vocabulary), width, parts.prototypes.momentum)
        if parts.distillation.enabled:
            if self.settings.finetune == "frozen":
                raise ConfigError(
                    "MODEL.DISTILLATION needs a CLIP that trains; set MODEL.CLIP.FINETUNE"
                )
            self.teacher = Teacher(clip, self.adapter)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {
            **super().from_config(cfg),
            "parts": AHSSettings.from_config(cfg),
            "region_means": RegionMeans.from_config(cfg),
        }

    @classmethod
    def extra_costs_of(cls, cfg: CfgNode) -> int:
        """See `CATSeg.extra_costs_of`."""
        return int(cfg.MODEL.CLASS_PROJECTION.ENABLED)

    @classmethod
    def adapter_of(
        cls, cfg: CfgNode, clip: ClipEncoder, settings: ClipSettings
    ) -> OrthogonalAdapter | None:
        """See `CATSeg.adapter_of`; with HA-HEM where that is on."""
        energy = AdaptiveEnergySettings.from_config(cfg)
        if not energy.enabled:
            return orthogonal_adapter(clip, settings)
        if settings.finetune != "orthogonal":
            raise ConfigError(
                "MODEL.ADAPTIVE_ENERGY says how far CLIP is turned: set MODEL.CLIP.FINETUNE "
                f"orthogonal (now {settings.finetune}), or MODEL.ADAPTIVE_ENERGY.ENABLED False"
            )
        depths = {"text": clip.text_depth, "image": clip.depth}
        return orthogonal_adapter(
            clip, settings, Modulation(depths, energy.energy), energy.interpolation
        )

    def _trained_by_group(self) -> dict[str, dict[str, nn.Parameter]]:
        groups = super()._trained_by_group()
        for name in ("fpn", "projection", "rectification", "prototypes"):
            part = getattr(self, name)
            if part is not None:
                groups["head"] |= dict(part.named_parameters(prefix=name))
        return groups

    def _logits(self, encoded: Encoded, image_3HW: Tensor, names: Sequence[str]) -> Tensor:
        """See `CATSeg._logits`; at working size where regions have their means: (V,T,h,w)."""
        logits_VTgg = super()._logits(encoded, image_3HW, names)
        (region_means,) = self._region_means
        if region_means is None:
            return logits_VTgg
        seen_3HW = image_3HW.flip(-1) if encoded.canvas.flipped else image_3HW
        return region_means(seen_3HW, logits_VTgg)

    def _all_taps(self) -> Sequence[int]:
        return (*self.taps, *self.levels)

    def head_inputs(
        self, features: DenseFeatures, text_TPE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `CATSeg.head_inputs`: (B,E,G,G) twice, and (B,1,T,G,G) or None."""
        tokens_BEGG = features.tokens_BEGG
        if self.rectification is not None:
            tokens_BEGG = self.rectification(tokens_BEGG)
        appearance_BEGG, extra_BXTGG = tokens_BEGG, None
        if self.fpn is not None:
            layers = [features.taps[level] for level in self.levels]
            appearance_BEGG = self.fpn(tokens_BEGG, layers)
        if self.projection is not None:
            extra_BXTGG = self.projection(tokens_BEGG, text_TPE)
        return tokens_BEGG, appearance_BEGG, extra_BXTGG

    def further_losses(
        self, compared: Compared, pixels_B3SS: Tensor, labels_BHW: Tensor
    ) -> dict[str, Tensor]:
        """Those of the parts that are on, weighted scalars; the same names in every step."""
        parts, ignore = self.parts, self.ignore_value
        tokens_BEGG, text_TPE = compared.features.tokens_BEGG, compared.text_TPE
        losses: dict[str, Tensor] = {}
        if self.adapter is not None and parts.energy.enabled:
            losses["loss_energy"] = parts.energy.weight * self.adapter.energy_loss()
        if self.fpn is not None and parts.fpn.boundary_weight:
            loss = boundary_loss(compared.logits_BTgg, labels_BHW, ignore)
            losses["loss_boundary"] = parts.fpn.boundary_weight * loss
        if self.projection is not None and parts.projection.contrast_weight:
            loss = self.projection.contrast(tokens_BEGG, text_TPE, labels_BHW, ignore)
            losses["loss_contrast"] = parts.projection.contrast_weight * loss
        if self.rectification is not None and parts.rectification.weight:
            loss = self.rectification.loss(tokens_BEGG, labels_BHW, ignore)
            losses["loss_rectify"] = parts.rectification.weight * loss
        if self.prototypes is not None and parts.prototypes.weight:
            labels_BGG = patch_labels(labels_BHW, tokens_BEGG.shape[-1])
            loss = self.prototypes.loss(tokens_BEGG, text_TPE, labels_BGG, ignore)
            losses["loss_prototype"] = parts.prototypes.weight * loss
        if self.teacher is not None:
            weight = parts.distillation.weight * distillation_weight(
                _iteration(), parts.distillation.warmup, parts.distillation.end
            )
            teacher_BEGG = self.teacher.tokens(pixels_B3SS)
            losses["loss_distill"] = weight * distillation_loss(tokens_BEGG, teacher_BEGG)
        return losses


def _levels(asked: Sequence[int], clip: ClipEncoder) -> tuple[int, ...]:
    levels = tuple(asked) or (*clip.default_taps(), clip.depth - 1)
    wrong = [level for level in levels if not 0 <= level < clip.depth]
    if wrong:
        raise ConfigError(
            f"MODEL.SPHERICAL_FPN.LEVELS {levels}: this CLIP has the visual layers 0 to "
            f"{clip.depth - 1}"
        )
    return levels


def _iteration() -> int:
    """Of the training; 0 outside of one."""
    try:
        return int(get_event_storage().iter)
    except AssertionError:
        return 0
