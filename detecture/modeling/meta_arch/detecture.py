"""Detecture (arXiv 2606.14754): a VLM names the regions, and its states there select their masks.

Legend: B images, K regions, A answer tokens, D hidden size of the VLM, N active slots, H, W size of
an image.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from detecture.checkpoint.misfits import take_over
from detecture.config.sections.detecture import (
    RefinementSettings,
    SegmenterSettings,
    VlmSettings,
)
from detecture.config.sections.losses import LossSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.data.prompts import count_phrase
from detecture.modeling.bridge.grouping_term import GroupingTerm
from detecture.modeling.bridge.mask_losses import mask_loss_sums, partition_scores
from detecture.modeling.bridge.parts import DetectureBatch, RegionStates, prefixed
from detecture.modeling.bridge.refinement import Refinement
from detecture.modeling.encoding.encoders import Encoders, Encoding
from detecture.modeling.encoding.feature_cache import FeatureCache
from detecture.modeling.heads import BridgeHead, HeadShape, SlotLogits, build_head
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.segmenter import Segmenter, build_segmenter
from detecture.modeling.segmenter.sam3_files import read_sam3_structure
from detecture.modeling.vlm import Qwen3VL, build_vlm
from detecture.modeling.vlm.lm_loss import lm_token_weights, weighted_cross_entropy
from detecture.modeling.vlm.types import TeacherForced
from detecture.modeling.weights.dtypes import DTYPES
from detecture.modeling.weights.header_check import check_header
from detecture.modeling.weights.random_weights import random_source, seeded


@META_ARCH_REGISTRY.register()
class Detecture(nn.Module):
    """VLM, Bridge head and segmenter."""

    @configurable
    def __init__(
        self,
        *,
        vlm: Qwen3VL,
        segmenter: Segmenter,
        head: BridgeHead,
        train_segmenter: bool = False,
        segmenter_training_mode: bool = SegmenterSettings.training_mode,
        segmenter_source: str = "",
        loss: LossSettings | None = None,
        train_count: str = VlmSettings.train_count,
        cache: FeatureCache | None = None,
        refinement: RefinementSettings | None = None,
    ) -> None:
        """Join the parts.

        Args:
            vlm: writes the lines, and gives the states at `<|seg|>`.
            segmenter: gives pixel embeddings.
            head: connects them.
            train_segmenter: train it too; otherwise it is frozen and stays in evaluation mode.
            segmenter_training_mode: a frozen one is in training mode in training, as published.
            segmenter_source: what its weights are, for checkpoints and the cache.
            loss: weights of the losses, and their settings.
            train_count: what prompts say of the number of regions in training: `open` (between 1
                and 6, as published), `exact`, or `mixed` (half of the images each).
            cache: keeps what frozen parts compute; None: nothing is kept.
            refinement: of the masks, on the pixel embeddings; None: there is none.

        Raises:
            ConfigError: an unknown `train_count`.
        """
        super().__init__()
        self.vlm = vlm
        self.segmenter = segmenter.requires_grad_(False)
        self.head = head
        self.train_segmenter = train_segmenter
        self.segmenter_training_mode = segmenter_training_mode
        self.loss = loss or LossSettings()
        self.grouping = GroupingTerm(self.loss.grouping_weight, self.loss.grouping)
        self.train_count = train_count
        self.refinement = Refinement(refinement or RefinementSettings())
        self.encoders = Encoders(vlm, segmenter, segmenter_source, train_segmenter, cache)
        self.set_stage(2)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        vlm = build_vlm(cfg)
        # Frozen random weights are in no checkpoint: the seed alone must give them again.
        seed = cfg.MODEL.RANDOM_WEIGHTS_SEED
        with seeded(seed):
            segmenter = build_segmenter(cfg)
        shape = HeadShape(vlm.hidden_size, segmenter.text_width, segmenter.width)
        head = build_head(cfg, shape)
        dtype = DTYPES[cfg.MODEL.DTYPE]
        if cfg.MODEL.SEGMENTER.UNDER_AUTOCAST and dtype.itemsize == 2:
            segmenter.autocast = dtype
        elif not cfg.MODEL.SEGMENTER.TRAIN or dtype == torch.float64:
            segmenter.to(dtype)
        name, weights = cfg.MODEL.SEGMENTER.NAME, cfg.MODEL.SEGMENTER.BASE
        if not weights:
            structure = cfg.MODEL.SEGMENTER.CONFIG
            weights = random_source(structure, read_sam3_structure(structure), seed)
        return {
            "vlm": vlm,
            "segmenter": segmenter,
            "segmenter_source": f"{name}: {weights}",
            "head": head.double() if dtype == torch.float64 else head,
            "train_segmenter": cfg.MODEL.SEGMENTER.TRAIN,
            "segmenter_training_mode": cfg.MODEL.SEGMENTER.TRAINING_MODE,
            "loss": LossSettings.from_config(cfg),
            "train_count": cfg.MODEL.VLM.TRAIN_COUNT,
            "cache": FeatureCache(cfg.MODEL.FEATURE_CACHE) if cfg.MODEL.FEATURE_CACHE else None,
            "refinement": RefinementSettings.from_config(cfg),
        }

    # ---- what trains ------------------------------------------------------------------------

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with a learning rate of their own: `name`, `params`, `names`."""
        groups = []
        for name, named in self._trained_by_group().items():
            if named:
                groups.append({"name": name, "params": list(named.values()), "names": list(named)})
        return groups

    def _trained_by_group(self) -> dict[str, dict[str, nn.Parameter]]:
        groups: dict[str, dict[str, nn.Parameter]] = {}
        for name, part in self.head.named_parts():
            prefix = f"head.{name}"
            if isinstance(part, nn.Parameter):
                groups[name] = {prefix: part}
            else:
                groups[name] = {f"{prefix}.{key}": p for key, p in part.named_parameters()}
        groups["vlm"] = prefixed("vlm", self.vlm.backbone_parameters())
        groups["seg_rows"] = prefixed("vlm", self.vlm.seg_row_parameters())
        trained = self.segmenter.path_parameters() if self.train_segmenter else iter(())
        groups["segmenter"] = prefixed("segmenter", trained)
        return groups

    def set_stage(self, stage: int) -> None:
        """Stage 1 trains the head (and a segmenter that trains at all), stage 2 the VLM too."""
        self.stage = stage
        for name, named in self._trained_by_group().items():
            for parameter in named.values():
                parameter.requires_grad_(stage > 1 or name not in ("vlm", "seg_rows"))
        self.vlm_trains = stage > 1 and any(True for _ in self.vlm.trained_parameters())

    def train(self, mode: bool = True) -> "Detecture":
        """As torch's; a frozen segmenter has dropout, and so stays in evaluation mode."""
        super().train(mode)
        if not (self.train_segmenter or self.segmenter_training_mode):
            self.segmenter.eval()
        return self

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All that trains in some stage, by name: tensors of any shapes."""
        groups = self._trained_by_group().values()
        return {key: value.detach() for named in groups for key, value in named.items()}

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, in the same shapes.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """
        take_over(self.checkpoint_state(), state)

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return {
            **self.vlm.header(),
            "segmenter": self.encoders.segmenter_source,
            "attention": self.vlm.attention,
            "image_size": self.vlm.image_size,
            "decoding": self.head.decoding,
        }

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Take over prompts and answer format that a checkpoint was trained with.

        Raises:
            CheckpointError: it was trained with another vocabulary, other adapters, or other random
                weights of a frozen part.
        """
        keys = ["attention", "image_size", "decoding"]
        keys += ["vlm"] if self.vlm.train_kind != "full" else []
        keys += ["segmenter"] if not self.train_segmenter else []
        check_header(self.checkpoint_header(), header, keys)
        self.vlm.take_header(header)

    # ---- training ---------------------------------------------------------------------------

    def prepare(self, batched_inputs: list[dict[str, Any]]) -> DetectureBatch:
        """Mapped dicts with their true answers, which both losses and normalizers need."""
        descriptions = [list(s["descriptions"][: self.vlm.max_regions]) for s in batched_inputs]
        answers = [self.vlm.answer_ids(texts) for texts in descriptions]
        return DetectureBatch(batched_inputs, descriptions, answers)

    @takes_plain_inputs
    def forward(
        self,
        batched_inputs: list[dict[str, Any]] | DetectureBatch,
        normalizers: dict[str, float] | None = None,
    ) -> Any:
        """In training a batch to losses, otherwise mapped dicts to standard outputs.

        Args:
            batched_inputs: mapped dicts, in training also what `prepare` made of them.
            normalizers: training only: sums of `loss_normalizers` over the whole effective batch;
                None: those of this batch.

        Returns:
            `{"loss_ce", "loss_dice", "loss_lm"}` (scalars, weighted; without `loss_lm` where
            nothing of the VLM trains; with `loss_grouping` where that has a weight), or a list of
            standard outputs with `generated_text`.
        """
        batch = self._prepared(batched_inputs) if self.training else None
        if batch is None:
            return self.predict(cast(list[dict[str, Any]], batched_inputs))
        if normalizers is None:
            normalizers = self.loss_normalizers(batch)
        features = self.encoders.image_features(batch.images)
        forced = self._teacher_forced(batch)
        weights, grouping = self.loss, self.grouping
        slots = self._slots(features, forced.states_BKD, forced.count_B, grouping.weight)
        labels_BHW = self._labels(batch.samples, slots.logits_Nhw.device)
        sums = mask_loss_sums(slots.logits_Nhw, slots.image_index_N, slots.slot_index_N, labels_BHW)
        losses = {
            "loss_ce": weights.mask_weight * sums.ce_sum / normalizers["images"],
            "loss_dice": weights.mask_weight
            * weights.dice_weight
            * sums.dice_sum
            / normalizers["slots"],
        }
        if grouping.weight and slots.embedding_BEhw is not None:
            names = [sample["image_id"] for sample in batch.samples]
            total = grouping.sum(slots.embedding_BEhw, labels_BHW, names)
            losses["loss_grouping"] = total / normalizers["images"]
        if forced.predictions_BAD is not None:
            # An answer without <|seg|> weighs nothing, and a batch of them must not divide by 0.
            lm_sum = self._lm_loss_sum(forced, forced.predictions_BAD)
            lm_sum = lm_sum / max(normalizers["lm_weights"], 1e-8)
            losses["loss_lm"] = weights.lm_weight * lm_sum
        return losses

    def loss_normalizers(self, batch: list[dict[str, Any]] | DetectureBatch) -> dict[str, float]:
        """What the sums of the losses of this batch are to be divided by, from the data alone.

        Args:
            batch: mapped dicts, or what `prepare` made of them.

        Returns:
            `images`, `slots` (active ones, dustbins included) and `lm_weights` (sum of the token
            weights).
        """
        batch, weights = self._prepared(batch), 0.0
        for answer in batch.answers:
            ids_1A = torch.tensor([answer])
            valid_1A = torch.ones_like(ids_1A, dtype=torch.bool)
            weights += float(self._token_weights(ids_1A, valid_1A).double().sum())
        return {
            "images": float(len(batch)),
            "slots": float(sum(1 + len(texts) for texts in batch.descriptions)),
            "lm_weights": weights,
        }

    def _prepared(self, batch: list[dict[str, Any]] | DetectureBatch) -> DetectureBatch:
        return batch if isinstance(batch, DetectureBatch) else self.prepare(batch)

    def _teacher_forced(self, batch: DetectureBatch) -> TeacherForced:
        images, answers = batch.images, batch.answers
        counts = [
            self._training_count(sample["image_id"], len(texts))
            for sample, texts in zip(batch.samples, batch.descriptions, strict=True)
        ]
        supervise = self.vlm_trains and self.vlm.supervise_lm
        if not self.vlm_trains and self.encoders.cache is not None:
            return self.encoders.region_states(self.encoders.cache, images, counts, answers)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.vlm_trains):
            prefix = self.vlm.prefix(self.encoders.vision_features(images), counts)
            return self.vlm.teacher_forced(prefix, answers, predictions=supervise)

    def _token_weights(self, ids_BA: Tensor, valid_BA: Tensor) -> Tensor:
        """Weights of the answer tokens in the language loss: float32 (B,A)."""
        return lm_token_weights(
            ids_BA,
            valid_BA,
            self.vlm.chat.seg_id,
            self.loss.lm_cliff,
            self.vlm.chat.stop_supervision,
            self.loss.lm_alpha,
        )

    def _lm_loss_sum(self, forced: TeacherForced, predictions_BAD: Tensor) -> Tensor:
        """The language loss, weighted and summed over all answer tokens: a scalar."""
        weights_BA = self._token_weights(forced.ids_BA, forced.valid_BA)
        counted_BA = weights_BA > 0  # the projection onto the vocabulary is run for these alone
        logits_MV = self.vlm.logits(predictions_BAD[counted_BA])
        total, _ = weighted_cross_entropy(
            logits_MV, forced.ids_BA[counted_BA], weights_BA[counted_BA]
        )
        return total

    def _training_count(self, image_id: str, count: int) -> str:
        """What a training prompt says of the number of regions."""
        exact = self.train_count == "exact" or (
            # By the image's name: the same in every process and after every restart.
            self.train_count == "mixed" and zlib.crc32(image_id.encode()) % 2
        )
        return count_phrase(count if exact else None)

    def _labels(self, samples: Sequence[dict[str, Any]], device: torch.device) -> Tensor:
        """The true regions of mapped dicts: int64 (B,H,W), 0 the dustbin."""
        labels_BHW = torch.stack([sample["sem_seg"] for sample in samples]).to(device)
        # Regions beyond those that have a line are dustbin.
        return labels_BHW.masked_fill(labels_BHW > self.vlm.max_regions, 0)

    def _slots(
        self, features: Any, states_BKD: Tensor, count_B: Tensor, grouping_weight: float = 0.0
    ) -> SlotLogits:
        """The head's answer, its masks refined where that is asked for."""
        refines = self.refinement.acts(self.training)
        asked = {"with_embedding": True} if refines or grouping_weight else {}
        slots: SlotLogits = self.head(self.segmenter, features, states_BKD, count_B, **asked)
        if not refines or slots.embedding_BEhw is None:
            return slots
        return replace(
            slots, logits_Nhw=self.refinement(slots.logits_Nhw, count_B, slots.embedding_BEhw)
        )

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def encode_image(self, sample: dict[str, Any]) -> Encoding:
        """What does not depend on the question, of a mapped dict's `image`."""
        return self.encoders.encode([sample["image"]])

    @torch.no_grad()
    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts to standard outputs.

        A dict with `descriptions` (TEST.ORACLE) is answered with these, teacher-forced; otherwise
        the model writes its own.
        """
        oracle = ["descriptions" in sample for sample in batched_inputs]
        if any(oracle) and not all(oracle):  # two kinds of passes
            return [self.predict([sample])[0] for sample in batched_inputs]
        return self.draw(batched_inputs, self.read(batched_inputs))

    @torch.no_grad()
    def read(self, batched_inputs: list[dict[str, Any]]) -> RegionStates:
        """The first half of `predict`: all that the VLM does.

        Args:
            batched_inputs: mapped dicts; all with `descriptions`, or none.
        """
        encoding = self.encoders.encode_samples(batched_inputs)
        counts = [count_phrase(sample["k_hint"].k) for sample in batched_inputs]
        prefix = self.vlm.prefix(encoding.vision, counts)
        if "descriptions" in batched_inputs[0]:
            batch = self.prepare(batched_inputs)
            forced = self.vlm.teacher_forced(prefix, batch.answers, predictions=False)
            texts = [self.vlm.chat.tokenizer.decode(answer) for answer in batch.answers]
            return RegionStates(
                encoding, forced.states_BKD, forced.count_B, batch.descriptions, texts
            )
        written = self.vlm.generate(prefix)
        return RegionStates(
            encoding, written.states_BKD, written.count_B, written.descriptions, written.texts
        )

    @torch.no_grad()
    def draw(
        self, batched_inputs: list[dict[str, Any]], regions: RegionStates
    ) -> list[dict[str, Any]]:
        """The second half of `predict`: masks from states, which need not be the images' own."""
        slots = self._slots(regions.encoding.features, regions.states_BKD, regions.count_B)
        per_image = slots.logits_Nhw.split((regions.count_B + 1).tolist())
        return [
            {
                "sem_seg": partition_scores(logits, (sample["height"], sample["width"])),
                "descriptions": found,
                "generated_text": text,
                "status": "ok" if found else "no_region",
            }
            for sample, logits, found, text in zip(
                batched_inputs, per_image, regions.descriptions, regions.texts, strict=True
            )
        ]
