"""Optimiser steps of both stages: ours, and the published way on the same weights and inputs.

What the published way does differently (specification of the model, sections 2, 3 and 7): in stage
1 too, the VLM runs with autograd and a language loss over the whole vocabulary at all positions;
the whole embedding and output tables are trained behind a gradient mask, for the sake of two rows;
seven slots always go through SAM 3.

Legend: B images, K regions, A answer tokens, P prompt tokens, L of both, D hidden size,
V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from detecture.d2 import CfgNode
from detecture.data.prompts import count_phrase
from detecture.engine.optimizer import build_training_optimizer
from detecture.modeling.bridge.mask_losses import mask_loss_sums
from detecture.modeling.bridge.parts import DetectureBatch
from detecture.modeling.build import build_model
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.vlm.lm_loss import lm_token_weights
from detecture.modeling.vlm.region_attention import additive_mask, answer_attention, region_blocks
from detecture.modeling.vlm.seg_rows import SegEmbedding, SegHead
from detecture.profiling.clock import StageClock, ratios, summarize
from detecture.profiling.inference import VoidComparison
from detecture.profiling.workload import pad_prompt, samples

CLIP = 1.0
"""Greatest norm of a gradient, on both sides."""


class _Table(nn.Module):
    """A whole vocabulary table in place of one with a separate trained row."""

    def __init__(self, wrapper: SegEmbedding | SegHead) -> None:
        super().__init__()
        self.base: nn.Embedding | nn.Linear = wrapper.base
        self.seg_id = wrapper.seg_id
        with torch.no_grad():
            self.base.weight[self.seg_id] = wrapper.row.to(self.base.weight.dtype)

    @property
    def weight(self) -> Tensor:
        """The table (V,D)."""
        return self.base.weight

    @property
    def row(self) -> Tensor:
        """The row of `<|seg|>`, (D,), which is not a parameter of its own."""
        return self.base.weight[self.seg_id]

    def forward(self, inputs: Tensor) -> Tensor:
        """Ids (B,L) to vectors (B,L,D), or states (..,D) to logits (..,V)."""
        output: Tensor = self.base(inputs)
        return output

    def train_masked(self, trains: bool) -> None:
        """Let the table train, with the gradient of all rows but one set to zero."""
        self.base.weight.requires_grad_(trains)
        if trains:
            mask_V1 = torch.zeros(len(self.base.weight), 1, device=self.base.weight.device)
            mask_V1[self.seg_id] = 1.0
            self.base.weight.register_hook(lambda gradient: gradient * mask_V1.to(gradient.dtype))


class Side:
    """A model, its optimiser, and what a step of it is; this one is ours."""

    name = "ours"

    def __init__(self, cfg: CfgNode, stage: int, prompt_tokens: int) -> None:
        """Build it: the same weights for the same config.

        Args:
            cfg: of a Detecture.
            stage: of the curriculum, 1 or 2.
            prompt_tokens: length that prompts are padded to, without visual tokens.
        """
        torch.manual_seed(0)  # the head's weights
        model = build_model(cfg)
        if not isinstance(model, Detecture):
            raise TypeError(f"{type(model).__name__} is no Detecture")
        self.model = model
        pad_prompt(model.vlm, prompt_tokens)
        self.optimizer = build_training_optimizer(cfg, model)
        self.model.train()
        self.model.set_stage(stage)

    def losses(self, batch: DetectureBatch) -> dict[str, Tensor]:
        """Weighted losses of a batch: a scalar for each name."""
        losses: dict[str, Tensor] = self.model(batch)
        return losses

    def step(self, batch: DetectureBatch, clock: StageClock) -> dict[str, float]:
        """One optimiser step; returns the losses before it."""
        clock.enter("forward")
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.losses(batch)
        clock.enter("backward")
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        total.backward()
        clock.enter("update")
        trained = [p for g in self.optimizer.param_groups for p in g["params"]]
        nn.utils.clip_grad_norm_([p for p in trained if p.grad is not None], CLIP)
        self.optimizer.step()
        clock.leave()
        return {name: float(loss.detach()) for name, loss in losses.items()}


class PublishedSide(Side):
    """As the published code does it."""

    name = "published"
    tables_train_in_stage_1 = True

    def __init__(self, cfg: CfgNode, stage: int, prompt_tokens: int) -> None:
        super().__init__(cfg, stage, prompt_tokens)
        vlm = self.model.vlm
        self.tables = [_Table(vlm.model.get_input_embeddings()), _Table(vlm.model.lm_head)]
        vlm.model.set_input_embeddings(self.tables[0])
        vlm.model.lm_head = self.tables[1]
        for table in self.tables:
            table.train_masked(stage > 1 or self.tables_train_in_stage_1)
        self.stage = stage
        if vlm.train_kind != "full":  # otherwise they are in it already
            weights = [table.weight for table in self.tables]
            self.optimizer.add_param_group({"params": weights, "name": "tables"})

    def losses(self, batch: DetectureBatch) -> dict[str, Tensor]:
        """Weighted losses of a batch: a scalar for each name, all three in both stages."""
        model = self.model
        images = batch.images
        features = model.encoders.image_features(images)
        count_B = torch.tensor(
            [len(texts) for texts in batch.descriptions], device=model.vlm.device
        )
        states_BKD, lm_loss = self._language(batch, images)
        if self.stage == 1:
            states_BKD = states_BKD.detach()
        absent_BK = torch.arange(states_BKD.shape[1], device=count_B.device) >= count_B[:, None]
        states_BKD = states_BKD.masked_fill(absent_BK[..., None], 0.0)
        every_B = torch.full_like(count_B, states_BKD.shape[1])
        slots = model.head(model.segmenter, features, states_BKD, every_B)
        active_N = slots.slot_index_N <= count_B[slots.image_index_N]
        sums = mask_loss_sums(
            slots.logits_Nhw[active_N],
            slots.image_index_N[active_N],
            slots.slot_index_N[active_N],
            torch.stack([sample["sem_seg"] for sample in batch.samples]).to(count_B.device),
        )
        weights = model.loss
        return {
            "loss_ce": weights.mask_weight * sums.ce_sum / sums.ce_count,
            "loss_dice": weights.mask_weight
            * weights.dice_weight
            * sums.dice_sum
            / sums.dice_count,
            "loss_lm": weights.lm_weight * lm_loss,
        }

    def _language(self, batch: DetectureBatch, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Region states (B,K,D), and the language loss, a scalar, of uint8 (3,H,W) images.

        One pass under the block-diagonal mask.
        """
        vlm, chat = self.model.vlm, self.model.vlm.chat
        vision = vlm.encode_images(images)
        prefix = vlm.prefix(vision, [count_phrase(None)] * len(batch))
        # Answers of one length, as the workload makes them.
        ids_BA = torch.tensor(batch.answers, device=vlm.device)
        valid_BA = torch.ones_like(ids_BA, dtype=torch.bool)
        blocks = region_blocks(
            ids_BA, valid_BA, chat.seg_id, chat.stop_supervision, vlm.max_regions
        )
        hidden_BLD = vlm.model.model(
            input_ids=torch.cat([prefix.ids_BP, ids_BA], dim=1),
            attention_mask=additive_mask(
                prefix.valid_BP, [answer_attention(blocks, "block_diagonal")], vlm.model.dtype
            ),
            position_ids=torch.cat(
                [prefix.positions_3BP, prefix.answer_positions(ids_BA.shape[1])], dim=2
            ),
            mm_encoder_outputs=vision.as_encoder_output(),
            use_cache=False,
        ).last_hidden_state
        prompt_length = prefix.ids_BP.shape[1]
        index_BKD = (prompt_length + blocks.seg_position_BK)[..., None]
        states_BKD = hidden_BLD.gather(1, index_BKD.expand(-1, -1, hidden_BLD.shape[-1]))
        # All positions and the whole vocabulary; positions in the prompt have weight 0.
        logits_BLV = vlm.logits(hidden_BLD)
        weights_BA = lm_token_weights(
            ids_BA,
            valid_BA,
            chat.seg_id,
            self.model.loss.lm_cliff,
            chat.stop_supervision,
            self.model.loss.lm_alpha,
        )
        weights_BL = torch.nn.functional.pad(weights_BA, (prompt_length, 0))
        targets_BL = torch.cat([prefix.ids_BP, ids_BA], dim=1)
        ce_M = cross_entropy(
            logits_BLV[:, :-1].flatten(0, 1).float(), targets_BL[:, 1:].flatten(), reduction="none"
        )
        weights_M = weights_BL[:, 1:].flatten()
        return states_BKD, (weights_M * ce_M).sum() / weights_M.sum()


class PublishedFrozenTables(PublishedSide):
    """The same, but with frozen tables in stage 1: the least that the published way can cost.

    Nothing in the VLM has a gradient then. The release freezes the tables too, but runs the
    gradients of the language loss through the VLM: its cost lies between this and `PublishedSide`.
    """

    name = "published_frozen_tables"
    tables_train_in_stage_1 = False


def benchmark_training(
    cfg: CfgNode,
    *,
    stage: int,
    batch_size: int,
    regions: int,
    tokens_per_region: int,
    prompt_tokens: int,
    repeats: int,
    published: bool,
) -> dict[str, Any]:
    """Time optimiser steps of all sides in turn on the same inputs, after one untimed step each.

    Args:
        cfg: of a Detecture; SOLVER.OPTIMIZER should be AdamW, and dropout off.
        stage: of the curriculum, 1 or 2.
        batch_size: images of a step (one micro-batch).
        regions: K of each image.
        tokens_per_region: length of a line of the answer.
        prompt_tokens: length of prompts without visual tokens.
        repeats: timed steps of each side.
        published: run the published side too; in stage 1 also with frozen tables.

    Returns:
        For each side the phases `forward`, `backward`, `update` and `total` as `summarize` gives
        them, `ratio_p50` of the published sides, and the losses of the first step.

    Raises:
        VoidComparison: the mask losses of the first step differ.
        ConfigError: the answer does not fit the model's limits.
    """
    kinds: list[type[Side]] = [Side]
    if published:
        kinds += [PublishedSide] + ([PublishedFrozenTables] if stage == 1 else [])
    sides = [kind(cfg, stage, prompt_tokens) for kind in kinds]
    batch = samples(sides[0].model, batch_size, regions, tokens_per_region, cfg.INPUT.TRAIN_SIZE)
    device = sides[0].model.vlm.device
    memory = {side.name: StageClock(device, memory=True) for side in sides}
    losses = {side.name: side.step(batch, memory[side.name]) for side in sides}
    _compare(losses)
    clocks: dict[str, list[StageClock]] = {side.name: [] for side in sides}
    for repeat in range(repeats):
        for side in sides if repeat % 2 else sides[::-1]:
            clock = StageClock(device)
            side.step(batch, clock)
            clocks[side.name].append(clock)
    result: dict[str, Any] = {
        "stage": stage,
        "batch_size": batch_size,
        "regions": regions,
        "repeats": repeats,
        "losses": losses,
    }
    for name, own in clocks.items():
        result[name] = summarize(own, memory[name])
    for name in list(clocks)[1:]:
        suffix = name.removeprefix("published")
        result[f"ratio_p50{suffix}"] = ratios(result[name], result["ours"])
        result[f"ratio_cpu_p50{suffix}"] = ratios(result[name], result["ours"], "cpu_p50_ms")
    return result


def _compare(losses: dict[str, dict[str, float]]) -> None:
    for name, own in losses.items():
        for key in ("loss_ce", "loss_dice"):
            expected = losses["ours"][key]
            if not abs(own[key] - expected) <= 1e-4 * max(abs(expected), 1.0):
                raise VoidComparison(
                    f"{key} of the first step is {expected} on our side and {own[key]} on the side "
                    f"{name}; set MODEL.BRIDGE.DROPOUT 0.0 and MODEL.DTYPE float32, or the two do "
                    "not compute the same"
                )
