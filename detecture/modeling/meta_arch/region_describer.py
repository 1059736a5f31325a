"""Trains a describer by itself: images and true regions in, sentences out.

The tensors of its checkpoints begin with `describer.`, so that a model that finds regions first
loads them into its own part of that name.
"""

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn

from detecture.checkpoint.misfits import take_over
from detecture.config.sections.losses import LossSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.errors import ConfigError
from detecture.modeling.describer import Describer, DescriberBatch
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.weights.header_check import check_header

logger = logging.getLogger(__name__)

_TEXTURE = "describer.texture."


@META_ARCH_REGISTRY.register()
class RegionDescriber(nn.Module):
    """A describer, given the true regions."""

    @configurable
    def __init__(self, *, describer: Describer, lm_weight: float = LossSettings.lm_weight) -> None:
        """Wrap a describer.

        Args:
            describer: writes the sentences.
            lm_weight: weight of its loss.

        Raises:
            ConfigError: `lm_weight` is not above 0, so that nothing would be learnt.
        """
        super().__init__()
        if lm_weight <= 0:
            raise ConfigError(f"LOSS.LM_WEIGHT {lm_weight}: RegionDescriber has no other loss")
        self.describer = describer
        self.lm_weight = lm_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            CheckpointError: MODEL.DESCRIBER.TEXTURE_WEIGHTS cannot be read or does not fit.
            ConfigError: it is given, but MODEL.DESCRIBER.TEXTURE is off.
        """
        describer, weights = Describer(cfg), cfg.MODEL.DESCRIBER.TEXTURE_WEIGHTS
        if weights:
            if describer.texture is None:
                raise ConfigError(
                    f"MODEL.DESCRIBER.TEXTURE_WEIGHTS {weights}: nothing takes them while MODEL."
                    "DESCRIBER.TEXTURE is False; set it to True"
                )
            describer.texture.start_from(weights)
        return {"describer": describer, "lm_weight": cfg.LOSS.LM_WEIGHT}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with a learning rate of their own: `name`, `params`, `names`."""
        groups = []
        for name, named in self.describer.parameters_by_group().items():
            if named:
                names = [f"describer.{key}" for key in named]
                groups.append({"name": name, "params": list(named.values()), "names": names})
        return groups

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All that trains, by name: tensors of any shapes."""
        return {
            name: parameter.detach()
            for group in self.parameter_groups()
            for name, parameter in zip(group["names"], group["params"], strict=True)
        }

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, in the same shapes.

        A describer that looks at textures also takes a checkpoint of one that does not: that part
        then stays as it was built, so that training can add it later.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """
        own = self.checkpoint_state()
        textures = [name for name in own if name.startswith(_TEXTURE)]
        if textures and not any(name.startswith(_TEXTURE) for name in state):
            logger.warning(
                "The checkpoint holds none of the %d tensors %s*: they stay as they were built",
                len(textures),
                _TEXTURE,
            )
            own = {name: tensor for name, tensor in own.items() if name not in textures}
        take_over(own, state)

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return self.describer.header()

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Take over the prompts that a checkpoint was trained with.

        Raises:
            CheckpointError: it was trained with another vocabulary, other adapters, or other random
                weights of a frozen part.
        """
        keys = ["image_size"] + (["vlm"] if self.describer.vlm.train_kind != "full" else [])
        check_header(self.checkpoint_header(), header, keys)
        self.describer.vlm.take_header(header)

    # ---- passes -----------------------------------------------------------------------------

    def prepare(self, batched_inputs: list[dict[str, Any]]) -> DescriberBatch:
        """Mapped dicts with the regions that are drawn of them, and their sentences."""
        return self.describer.prepare(batched_inputs)

    def loss_normalizers(self, batch: list[dict[str, Any]] | DescriberBatch) -> dict[str, float]:
        """What the sums of the losses of this batch are to be divided by, from the data alone."""
        return self.describer.loss_normalizers(self._prepared(batch))

    def _prepared(self, batch: list[dict[str, Any]] | DescriberBatch) -> DescriberBatch:
        return batch if isinstance(batch, DescriberBatch) else self.prepare(batch)

    @takes_plain_inputs
    def forward(
        self,
        batched_inputs: list[dict[str, Any]] | DescriberBatch,
        normalizers: dict[str, float] | None = None,
    ) -> Any:
        """In training a batch to losses, otherwise mapped dicts to sentences about true regions.

        Args:
            batched_inputs: mapped dicts with `sem_seg`, in evaluation too; in training also what
                `prepare` made of them.
            normalizers: training only: sums of `loss_normalizers` over the whole effective batch.

        Returns:
            `{"loss_lm"}`, or a list of dicts: `descriptions` and `sem_seg`, the true regions as
            float scores (K+1,H,W), the dustbin last.

        Raises:
            ConfigError: in evaluation, an image comes without its regions.
        """
        if self.training:
            losses = self.describer.losses(self._prepared(batched_inputs), normalizers)
            return {name: self.lm_weight * loss for name, loss in losses.items()}
        samples = cast(list[dict[str, Any]], batched_inputs)
        return [self._describe(sample) for sample in samples]

    def _describe(self, sample: dict[str, Any]) -> dict[str, Any]:
        if "sem_seg" not in sample:
            raise ConfigError(
                f"image {sample.get('image_id')!r} comes without sem_seg: RegionDescriber only "
                "describes regions that it is given. Leave DATASETS.TEST empty, or set "
                "MODEL.META_ARCHITECTURE to a model that finds them"
            )
        labels_HW = sample["sem_seg"]
        count = max(int(labels_HW.max()), len(sample.get("descriptions", ())))
        numbers = torch.arange(1, count + 1, device=labels_HW.device)
        masks_KHW = labels_HW == numbers[:, None, None]
        sentences = self.describer.describe(sample["image"], masks_KHW)
        planes = torch.cat([masks_KHW, (labels_HW == 0)[None]]).float()
        return {"descriptions": sentences, "sem_seg": planes, "status": "ok"}
