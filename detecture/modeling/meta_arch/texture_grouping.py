"""Groups pixels into regions first, then describes each region with a VLM.

A small net, trained on procedural textures alone, embeds the pixels; mixtures with one shared
covariance divide embeddings and classical features together; a selector chooses the number of
regions where it is unknown; the describer writes a sentence for each region that was found.

Legend: H, W image size; h, w working size; N grid cells; F components; K regions.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.checkpoint.misfits import take_over
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.grouping import GroupingSettings
from detecture.config.sections.losses import GroupingLossSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.errors import ConfigError
from detecture.modeling.describer import Describer
from detecture.modeling.grouping.classical import ClassicalFeatures, resize_longer
from detecture.modeling.grouping.confidence import RegionConfidence, region_figures
from detecture.modeling.grouping.count_selector import CountSelector
from detecture.modeling.grouping.evidence import evidence
from detecture.modeling.grouping.finder import Division, GridFeatures, RegionFinder
from detecture.modeling.grouping.net import GroupingNet
from detecture.modeling.grouping.proposals import (
    Proposal,
    alternatives,
    choose,
    require_granularity,
)
from detecture.modeling.grouping.training import net_loss
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.weights.header_check import check_header
from detecture.modeling.weights.random_weights import seeded

_CONFIDENCE = "confidence."


@dataclass(frozen=True)
class EncodedImage:
    """What does not depend on the question: an image is encoded once for all of them.

    Attributes:
        features: what regions are found by.
        points: what each mixture divides, (N,F) each.
        proposals: what the number of regions is chosen from; empty until they are asked for.
        cuts: divisions by all mixtures that were computed, by their number of regions.
    """

    features: GridFeatures
    points: list[np.ndarray]
    proposals: list[Proposal] = field(default_factory=list)
    cuts: dict[int, Division] = field(default_factory=dict)


@META_ARCH_REGISTRY.register()
class TextureGrouping(nn.Module):
    """A grouping net and a finder of regions, a selector of their number, and a describer."""

    @configurable
    def __init__(
        self,
        *,
        net: GroupingNet,
        selector: CountSelector,
        more_nets: Sequence[GroupingNet] = (),
        describer: Describer | None = None,
        settings: GroupingSettings | None = None,
        loss: GroupingLossSettings | None = None,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
        granularity: float = EvaluationSettings.granularity,
    ) -> None:
        """Put the parts together. Only the net trains here; see `configs/recipes` for the others.

        Args:
            net: embeds pixels.
            selector: chooses the number of regions.
            more_nets: see `RegionFinder`; with any, nothing trains here.
            describer: writes the sentences; None: they stay empty.
            settings: of how regions are found.
            loss: of the net.
            dustbin_logit: score of the dustbin; no pixel goes to it.
            granularity: where a mapped dict does not say it, see `ChoosesGranularity`.

        Raises:
            ConfigError: the granularity is not -1..1.
        """
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.more_nets = nn.ModuleList(more_nets).to(memory_format=torch.channels_last)
        self.selector = selector.requires_grad_(False)
        self.confidence = RegionConfidence()
        self.describer = None if describer is None else describer.requires_grad_(False)
        settings = settings or GroupingSettings()
        classical = ClassicalFeatures(settings.working_size)
        self.finder = RegionFinder((net, *more_nets), classical, settings)
        self.loss = loss or GroupingLossSettings()
        self.dustbin_logit = dustbin_logit
        self.granularity = require_granularity(granularity)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            ConfigError: a value is out of its range.
        """
        settings = GroupingSettings.from_config(cfg)
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            shape = (settings.widths, settings.channels, settings.attention_blocks)
            net = GroupingNet(*shape)
            selector = CountSelector(cfg.MODEL.MAX_REGIONS)
            more_nets = [GroupingNet(*shape) for _ in range(1, settings.nets)]
        return {
            "net": net,
            "selector": selector,
            "more_nets": more_nets,
            "describer": Describer(cfg) if settings.describe else None,
            "settings": settings,
            "loss": GroupingLossSettings.from_config(cfg),
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
            "granularity": cfg.TEST.GRANULARITY,
        }

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All that is learnt in some stage, by name: tensors of any shapes."""
        state = {f"net.{name}": p.detach() for name, p in self.net.named_parameters()}
        more = self.more_nets.named_parameters()
        state |= {f"more_nets.{name}": p.detach() for name, p in more}
        state |= {f"selector.{name}": p.detach() for name, p in self.selector.named_parameters()}
        if self.confidence.is_fitted:
            state |= self._confidence_state()
        if self.describer is not None:
            for named in self.describer.parameters_by_group().values():
                state |= {f"describer.{name}": p.detach() for name, p in named.items()}
        return state

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, in the same shapes.

        Without a describer, its part is left out. Checkpoints of before there was a confidence lack
        it; regions then have none.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """
        if self.describer is None:
            state = {n: t for n, t in state.items() if not n.startswith("describer.")}
        own = self.checkpoint_state() | self._confidence_state()
        if not any(name.startswith(_CONFIDENCE) for name in state):
            blank = RegionConfidence().named_parameters()
            state = state | {f"{_CONFIDENCE}{name}": p.detach() for name, p in blank}
        take_over(own, state)

    def _confidence_state(self) -> dict[str, Tensor]:
        """Weights of the confidence by their names in checkpoints, of any shapes."""
        return {f"{_CONFIDENCE}{n}": p.detach() for n, p in self.confidence.named_parameters()}

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return {} if self.describer is None else self.describer.header()

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Take over what the describer was trained with.

        Raises:
            CheckpointError: it was trained with another vocabulary, other adapters, or other random
                weights of a frozen part.
        """
        if self.describer is None:
            return
        keys = ["image_size"] + (["vlm"] if self.describer.vlm.train_kind != "full" else [])
        check_header(self.checkpoint_header(), header, keys)
        self.describer.vlm.take_header(header)

    # ---- passes -----------------------------------------------------------------------------

    @takes_plain_inputs
    def forward(
        self, batched_inputs: list[dict[str, Any]], normalizers: dict[str, float] | None = None
    ) -> Any:
        """In training mapped dicts to losses, otherwise to standard outputs.

        Args:
            batched_inputs: mapped dicts (`detecture.data.mapper`); in training with `sem_seg`.
            normalizers: not used: the loss is a mean over images.

        Returns:
            `{"loss_grouping"}` (scalar), or a list of standard outputs.
        """
        if self.training:
            if self.more_nets:
                raise ConfigError(
                    "MODEL.GROUPING.NETS: nets are trained one at a time; set it to 1"
                )
            return {"loss_grouping": net_loss(self.net, batched_inputs, self.loss)}
        return [self._answer(sample) for sample in batched_inputs]

    def encode_image(self, sample: dict[str, Any]) -> EncodedImage:
        """What does not depend on the question, of a mapped dict's `image`.

        The proposals and their final cuts are part of it, so that another granularity, or another
        number of regions among them, costs neither nets nor mixtures.
        """
        encoded = self.encoded(_as_array(sample))
        for proposal in self.proposals(encoded):
            self.cut(encoded, proposal)
        return encoded

    def encoded(self, image: np.ndarray) -> EncodedImage:
        """What all answers about an image, uint8 (H,W,3), need; proposals and cuts come later."""
        features = self.finder.encode(image)
        return EncodedImage(features, self.finder.points(features))

    @torch.no_grad()
    def proposals(self, encoded: EncodedImage) -> list[Proposal]:
        """The divisions that the model offers, computed once for each image."""
        if not encoded.proposals:
            divisions = self.divisions(encoded.points)
            figures = torch.from_numpy(evidence(encoded.features, divisions)).float()
            odds_K = self.selector(figures[None].to(self.selector.center.device))[0]
            found = map(Proposal, divisions, odds_K.tolist())
            encoded.proposals.extend(found)
        return encoded.proposals

    def cut(self, encoded: EncodedImage, proposal: Proposal) -> Division:
        """The division that a proposal stands for, by all mixtures instead of every second one."""
        return self.divide(encoded, proposal.division.posterior_NK.shape[1])

    def divide(self, encoded: EncodedImage, count: int) -> Division:
        """The division into `count` regions by all mixtures, computed once for each image."""
        if count not in encoded.cuts:
            encoded.cuts[count] = self.finder.divide(encoded.points, count)
        return encoded.cuts[count]

    @torch.no_grad()
    def _answer(self, sample: dict[str, Any]) -> dict[str, Any]:
        encoded = sample.get("encoding")
        if encoded is None:
            encoded = self.encoded(_as_array(sample))
        told = sample["k_hint"].k
        odds = None
        if told is None:
            chosen = choose(self.proposals(encoded), sample.get("granularity", self.granularity))
            division, odds = self.cut(encoded, chosen), chosen.log_probability
        else:
            division = self.divide(encoded, told)
        scores_Khw = self.finder.scores(encoded.features, division)
        size = (sample["height"], sample["width"])
        scores_KHW = functional.interpolate(scores_Khw[None], size, mode="bilinear")[0]
        present = torch.arange(len(scores_Khw))
        if told is None:  # what nobody has asked for need not be there
            present = scores_KHW.argmax(dim=0).unique().cpu()
            scores_Khw, scores_KHW = scores_Khw[present], scores_KHW[present]
        masks_Khw = scores_Khw.argmax(dim=0)[None] == torch.arange(len(scores_Khw))[:, None, None]
        # Above the dustbin, everywhere: the guided filter leaves the range 0..1 a little.
        scores_KHW = self.dustbin_logit + 1.0 + scores_KHW.clamp(0.0, 1.0)
        dustbin_1HW = torch.full((1, *size), float(self.dustbin_logit))
        output = {
            "sem_seg": torch.cat([scores_KHW, dustbin_1HW]),
            "descriptions": self._describe(sample, masks_Khw),
            "status": "ok",
            "alternatives": [astuple(one) for one in alternatives(encoded.proposals)],
        }
        if self.confidence.is_fitted:
            confidence_K = self.confidence_of(encoded.features, division, odds)
            output["confidence"] = confidence_K[present].tolist()
        return output

    def confidence_of(
        self, features: GridFeatures, division: Division, log_probability: float | None
    ) -> Tensor:
        """Confidence (K,) in each region of a division; see `RegionConfidence`.

        Args:
            features: of the image.
            division: into K regions.
            log_probability: of its count; None: the count was told.
        """
        figures_KF = torch.from_numpy(region_figures(features, division, log_probability)).float()
        answer_K: Tensor = self.confidence(figures_KF.to(self.confidence.bias.device)).cpu()
        return answer_K

    def divisions(self, points: list[np.ndarray]) -> list[Division]:
        """Divisions into 1, 2, .. regions, by every second mixture: what the number is chosen by.

        Args:
            points: (N,F) of each mixture, see `RegionFinder.points`.
        """
        return [
            self.finder.divide(points[::2], count) for count in range(1, self.selector.most + 1)
        ]

    def choose_count(self, features: GridFeatures, points: list[np.ndarray]) -> int:
        """The number of regions that the selector finds most probable; `points` are (N,F) each."""
        chosen = choose(self.proposals(EncodedImage(features, points)))
        return chosen.division.posterior_NK.shape[1]

    def _describe(self, sample: dict[str, Any], masks_Khw: Tensor) -> list[str]:
        if self.describer is None:
            return [""] * len(masks_Khw)
        image = resize_longer(_as_array(sample), self.finder.classical.working_size)
        image_3hw = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return self.describer.describe(image_3hw, masks_Khw)


def _as_array(sample: dict[str, Any]) -> np.ndarray:
    """A mapped dict's image as an array: uint8 (H,W,3)."""
    array: np.ndarray = sample["image"].permute(1, 2, 0).cpu().numpy()
    return array
