"""A box as an interactive prompt: SAM 3 segments what lies inside it.

Legend as in interface.py; S side of the square image in pixels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detecture.config.sections.baselines import GroundedSam3Settings
from detecture.d2 import CfgNode, configurable
from detecture.modeling.box_segmenter.interface import BoxSegmenter
from detecture.modeling.segmenter import Segmenter
from detecture.modeling.stretch import stretch
from detecture.modeling.weights.pretrained import import_parts


class BoxPrompt(BoxSegmenter):
    """The single-image part of SAM 3's tracker, transformers' `Sam3TrackerModel`.

    One mask a box is asked for (`multimask_output=False`), as is usual for boxes, which leave less
    open than a click: the decoder then answers its single mask, or, where that is unstable, the one
    of its three others whose predicted IoU is greatest.
    """

    @configurable
    def __init__(
        self,
        *,
        base: str = "",
        structure: str | Mapping[str, Any] = GroundedSam3Settings.box_config,
        autocast: bool = False,
    ) -> None:
        """Build it, with the weights of `base` or random ones, in float32.

        Args:
            base: hub id or folder in transformers' layout, of SAM 3 or of its tracker alone; empty:
                random weights.
            structure: of a tracker with random weights: name of a shipped one, path of a json file,
                or the dict itself.
            autocast: compute in bfloat16. The weights stay as they are: rounding would move the
                positions that boxes and pixels are known by.

        Raises:
            ConfigError: the structure cannot be read, or does not fit together.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        hf = import_parts("detecture.modeling.box_segmenter.hf_parts", "SAM 3")
        self.tracker = hf.load(base) if base else hf.make_random(structure)
        self.image_size = int(self.tracker.config.prompt_encoder_config.image_size)
        self.autocast = autocast
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {
            "base": cfg.MODEL.GROUNDED_SAM3.BOX_BASE,
            "structure": cfg.MODEL.GROUNDED_SAM3.BOX_CONFIG,
            "autocast": cfg.MODEL.DTYPE == "bfloat16",
        }

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = self.tracker.no_memory_embedding.device
        return device

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> list[Tensor]:
        """Feature maps (1,c,h,w) of an image, uint8 (3,H,W), finest first; c differs."""
        pixels_13SS = stretch([image], self.image_size, self.device).to(torch.float32) / 255.0
        pixels_13SS = (pixels_13SS - Segmenter.PIXEL_MEAN) / Segmenter.PIXEL_STD
        with self._precision():
            levels: list[Tensor] = self.tracker.get_image_embeddings(pixels_13SS)
        return levels

    @torch.no_grad()
    def logits(self, encoding: list[Tensor], boxes_R4: Tensor) -> Tensor:
        """Logits (R,h,w), see `BoxSegmenter`, from the feature maps (1,c,h,w) of an image."""
        centre_R2, extent_R2 = boxes_R4.to(self.device, torch.float32).split(2, dim=1)
        corners_R4 = torch.cat([centre_R2 - extent_R2 / 2, centre_R2 + extent_R2 / 2], dim=1)
        with self._precision():
            answer = self.tracker(
                image_embeddings=encoding,
                input_boxes=corners_R4[None] * self.image_size,
                multimask_output=False,
            )
        masks_Rhw: Tensor = answer.pred_masks[0, :, 0].float()
        return masks_Rhw

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)
