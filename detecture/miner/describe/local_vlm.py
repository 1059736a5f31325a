"""A VLM on this machine, asked in free words about several images at a time.

Legend: H, W size of an image.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from detecture.config.sections.detecture import VlmSettings
from detecture.d2 import CfgNode
from detecture.device import resolve_device
from detecture.miner.describe.interface import DescribeTask, Said, said_of
from detecture.miner.describe.prompt import (
    IMAGE_ALONE,
    SYSTEM,
    RegionLook,
    canvas,
    instruction,
    region_hints,
    shrink,
)
from detecture.miner.describe.settings import DescribeSettings
from detecture.modeling.vlm import Qwen3VL, build_vlm
from detecture.modeling.vlm.asking import ask

logger = logging.getLogger(__name__)


class LocalVlmDescriber:
    """A Qwen3-VL as it comes. It is shown one canvas: the image, and its overlay beside it."""

    name = "local_vlm"
    offline = False
    remote = False

    def __init__(
        self,
        vlm: Qwen3VL,
        look: RegionLook | None = None,
        batch_size: int = DescribeSettings.batch_size,
    ) -> None:
        """Wrap a VLM.

        Args:
            vlm: writes the answers; without `<|seg|>` rows (`with_seg_rows=False`).
            look: of the overlay; None: only the image is shown.
            batch_size: images at a time.
        """
        self.vlm = vlm.eval().requires_grad_(False)
        self.look = look
        self.batch_size = batch_size
        self.model = vlm.source

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        look: RegionLook | None = None,
        batch_size: int = DescribeSettings.batch_size,
    ) -> LocalVlmDescriber:
        """With the VLM of MODEL.VLM.

        Raises:
            CheckpointError: the weights, MODEL.VLM.BASE, cannot be had.
            ConfigError: a value is out of its range.
        """
        return cls(vlm_of(cfg, "the describer local_vlm"), look, batch_size)

    def describe(
        self,
        image: np.ndarray,
        index_mask: np.ndarray,
        class_names: Sequence[str],
        *,
        reason: str = "",
    ) -> Said:
        """See `MinerDescriber.describe`; `image` is (H,W,3), `index_mask` (H,W)."""
        task = DescribeTask("", image, index_mask, class_names)
        return self.describe_batch([task], [reason])[0]

    def describe_batch(self, tasks: Sequence[DescribeTask], reasons: Sequence[str]) -> list[Said]:
        """See `DescribesBatches.describe_batch`."""
        shown, questions = [], []
        for task, reason in zip(tasks, reasons, strict=True):
            seen, words = self._shown(task)
            shown.append(torch.from_numpy(np.array(seen)).permute(2, 0, 1))
            hints = region_hints(task.index_mask, task.class_names)
            colors = self.look.colors if self.look else ()
            questions.append(instruction(hints, colors, words, reason=reason))
        with torch.inference_mode():
            vision = self.vlm.encode_images(shown)
            answers = ask(self.vlm, vision, SYSTEM, questions)
        said = []
        visual = vision.tokens_BVD.shape[1]
        for task, question, answer in zip(tasks, questions, answers, strict=True):
            ids = self.vlm.chat.question_ids(SYSTEM, question, visual)
            tokens = len(ids), len(self.vlm.chat.ids(answer))
            said.append(said_of(answer, len(task.class_names), tokens))
        return said

    def _shown(self, task: DescribeTask) -> tuple[np.ndarray, str]:
        """What the VLM sees of an image: uint8 (H,W,3), and how the prompt says so."""
        image, index_mask = shrink(task.image, task.index_mask, self.vlm.image_size)
        if self.look is None:
            return image, IMAGE_ALONE
        return canvas(image, self.look.render(image, index_mask))


def vlm_of(cfg: CfgNode, asker: str) -> Qwen3VL:
    """The VLM of MODEL.VLM on its device, as it comes: without `<|seg|>` rows.

    Args:
        cfg: the whole config.
        asker: who asks it, for the warning where its weights are random.

    Raises:
        CheckpointError: the weights, MODEL.VLM.BASE, cannot be had.
        ConfigError: a value is out of its range.
    """
    if not cfg.MODEL.VLM.BASE:
        logger.warning(
            "MODEL.VLM.BASE is empty: %s runs with random weights; its answers mean nothing. Give "
            "a hub id such as Qwen/Qwen3-VL-8B-Instruct, or a folder",
            asker,
        )
    settings = replace(VlmSettings.from_config(cfg), train="none", stop_supervision="released")
    vlm = build_vlm(cfg, settings=settings, with_seg_rows=False)
    return vlm.to(resolve_device(cfg.MODEL.DEVICE)).eval().requires_grad_(False)
