"""Groups pixels into regions first, then describes each region with a VLM.

A small net, trained on procedural textures alone, embeds the pixels; mixtures with one shared
covariance divide embeddings and classical features together; a selector chooses the number of
regions where it is unknown; the describer writes a sentence for each region that was found.

Legend: H, W image size; h, w working size; K regions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.checkpoint.misfits import take_over
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.errors import ConfigError
from detecture.modeling.describer import Describer
from detecture.modeling.grouping.classical import ClassicalFeatures, resize_longer
from detecture.modeling.grouping.count_selector import CountSelector
from detecture.modeling.grouping.evidence import evidence
from detecture.modeling.grouping.finder import Division, ImageFeatures, RegionFinder
from detecture.modeling.grouping.net import GroupingNet
from detecture.modeling.grouping.training import net_loss
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.weights.header_check import check_header
from detecture.modeling.weights.random_weights import seeded


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
        finder_settings: dict[str, Any] | None = None,
        working_size: int = 256,
        loss_settings: dict[str, Any] | None = None,
        dustbin_logit: float = 0.0,
    ) -> None:
        """Put the parts together. Only the net trains here; see `configs/recipes` for the others.

        Args:
            net: embeds pixels.
            selector: chooses the number of regions.
            more_nets: see `RegionFinder`; with any, nothing trains here.
            describer: writes the sentences; None: they stay empty.
            finder_settings: of `RegionFinder`.
            working_size: longer side in pixels that images are resized to.
            loss_settings: `pixels`, `temperature` and `contrast_weight` of `net_loss`.
            dustbin_logit: score of the dustbin; no pixel goes to it.
        """
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.more_nets = nn.ModuleList(more_nets).to(memory_format=torch.channels_last)
        self.selector = selector.requires_grad_(False)
        self.describer = None if describer is None else describer.requires_grad_(False)
        classical = ClassicalFeatures(working_size)
        self.finder = RegionFinder((net, *more_nets), classical, **(finder_settings or {}))
        self.loss_settings = loss_settings or {
            "pixels": 160,
            "temperature": 0.1,
            "contrast_weight": 0.5,
        }
        self.dustbin_logit = dustbin_logit

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            ConfigError: a value is out of its range.
        """
        grouping, loss = cfg.MODEL.GROUPING, cfg.LOSS.GROUPING
        _check(grouping)
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            shape = (tuple(grouping.WIDTHS), grouping.CHANNELS, grouping.ATTENTION_BLOCKS)
            net = GroupingNet(*shape)
            selector = CountSelector(cfg.MODEL.MAX_REGIONS)
            more_nets = [GroupingNet(*shape) for _ in range(1, grouping.NETS)]
        return {
            "net": net,
            "selector": selector,
            "more_nets": more_nets,
            "describer": Describer(cfg) if grouping.DESCRIBE else None,
            "finder_settings": {
                "scales": tuple(grouping.SCALES),
                "flip": grouping.FLIP,
                "classical_weights": tuple(grouping.CLASSICAL_WEIGHTS),
                "position_weight": grouping.POSITION_WEIGHT,
                "components": tuple(grouping.COMPONENTS),
                "starts": grouping.STARTS,
                "filter_radius": grouping.FILTER_RADIUS,
                "filter_epsilon": grouping.FILTER_EPSILON,
                "use_net": grouping.USE_NET,
            },
            "working_size": grouping.WORKING_SIZE,
            "loss_settings": {
                "pixels": loss.PIXELS,
                "temperature": loss.TEMPERATURE,
                "contrast_weight": loss.CONTRAST_WEIGHT,
            },
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All that is learnt in some stage, by name."""
        state = {f"net.{name}": p.detach() for name, p in self.net.named_parameters()}
        more = self.more_nets.named_parameters()
        state |= {f"more_nets.{name}": p.detach() for name, p in more}
        state |= {f"selector.{name}": p.detach() for name, p in self.selector.named_parameters()}
        if self.describer is not None:
            for named in self.describer.parameters_by_group().values():
                state |= {f"describer.{name}": p.detach() for name, p in named.items()}
        return state

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave; without a describer, its part is left out.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """
        if self.describer is None:
            state = {n: t for n, t in state.items() if not n.startswith("describer.")}
        take_over(self.checkpoint_state(), state)

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
            batched_inputs: mapped dicts (DESIGN.md); in training with `sem_seg`.
            normalizers: not used: the loss is a mean over images.

        Returns:
            `{"loss_grouping"}` (scalar), or a list of standard outputs.
        """
        if self.training:
            if self.more_nets:
                raise ConfigError(
                    "MODEL.GROUPING.NETS: nets are trained one at a time; set it to 1"
                )
            return {"loss_grouping": net_loss(self.net, batched_inputs, **self.loss_settings)}
        return [self._answer(sample) for sample in batched_inputs]

    def encode_image(self, sample: dict[str, Any]) -> ImageFeatures:
        """What does not depend on the number of regions, of a mapped dict's `image`."""
        return self.finder.encode(_as_array(sample))

    @torch.no_grad()
    def _answer(self, sample: dict[str, Any]) -> dict[str, Any]:
        features = sample.get("encoding")
        if features is None:
            features = self.encode_image(sample)
        points = self.finder.points(features)
        count = sample["k_hint"].k
        known = count is not None
        if count is None:
            count = self.choose_count(features, points)
        scores_Khw = self.finder.scores(features, self.finder.divide(points, count))
        size = (sample["height"], sample["width"])
        scores_KHW = functional.interpolate(scores_Khw[None], size, mode="bilinear")[0]
        if not known:  # what nobody has asked for need not be there
            present = scores_KHW.argmax(dim=0).unique()
            scores_Khw, scores_KHW = scores_Khw[present], scores_KHW[present]
        masks_Khw = scores_Khw.argmax(dim=0)[None] == torch.arange(len(scores_Khw))[:, None, None]
        # Above the dustbin, everywhere: the guided filter leaves the range 0..1 a little.
        scores_KHW = self.dustbin_logit + 1.0 + scores_KHW.clamp(0.0, 1.0)
        dustbin_1HW = torch.full((1, *size), float(self.dustbin_logit))
        return {
            "sem_seg": torch.cat([scores_KHW, dustbin_1HW]),
            "descriptions": self._describe(sample, masks_Khw),
            "status": "ok",
        }

    def divisions(self, points: list[np.ndarray]) -> list[Division]:
        """Divisions into 1, 2, .. regions, by every second mixture: what the number is chosen by.

        Args:
            points: see `RegionFinder.points`.
        """
        return [
            self.finder.divide(points[::2], count) for count in range(1, self.selector.most + 1)
        ]

    def choose_count(self, features: ImageFeatures, points: list[np.ndarray]) -> int:
        """The number of regions that the selector finds most probable."""
        figures = torch.from_numpy(evidence(features, self.divisions(points))).float()
        device = self.selector.center.device
        odds_1K = self.selector(figures[None].to(device))
        return int(odds_1K.argmax()) + 1

    def _describe(self, sample: dict[str, Any], masks_Khw: Tensor) -> list[str]:
        if self.describer is None:
            return [""] * len(masks_Khw)
        image = resize_longer(_as_array(sample), self.finder.classical.working_size)
        image_3hw = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return self.describer.describe(image_3hw, masks_Khw)


def _as_array(sample: dict[str, Any]) -> np.ndarray:
    array: np.ndarray = sample["image"].permute(1, 2, 0).cpu().numpy()
    return array


def _check(grouping: CfgNode) -> None:
    if grouping.WORKING_SIZE < 16:
        raise ConfigError(f"MODEL.GROUPING.WORKING_SIZE {grouping.WORKING_SIZE}: at least 16")
    if not 1 <= grouping.NETS <= len(grouping.SCALES):
        raise ConfigError(
            f"MODEL.GROUPING.NETS {grouping.NETS}: 1 to {len(grouping.SCALES)}, as many as there "
            "are MODEL.GROUPING.SCALES"
        )
    if grouping.STARTS < 1:
        raise ConfigError(f"MODEL.GROUPING.STARTS {grouping.STARTS}: at least 1")
    for name in ("SCALES", "CLASSICAL_WEIGHTS", "COMPONENTS"):
        values = getattr(grouping, name)
        least = 0.0 if name == "CLASSICAL_WEIGHTS" else 1e-9
        if not values or min(values) < least:
            raise ConfigError(
                f"MODEL.GROUPING.{name} {tuple(values)}: needs one value or more, each "
                + ("0 or more" if least == 0.0 else "positive")
            )
    if not grouping.USE_NET and not any(grouping.CLASSICAL_WEIGHTS):
        raise ConfigError(
            "MODEL.GROUPING.USE_NET is False and all CLASSICAL_WEIGHTS are 0: nothing is left to "
            "find regions by"
        )
