"""Qwen3-VL: reads an image, writes `TEXTURE_i: .. <|seg|>` lines, and gives the states there.

Legend: B images, V visual tokens, P prompt tokens (padded on the left), A answer tokens (padded
on the right), L of both, K regions, D hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detecture.config.sections.detecture import VlmSettings
from detecture.config.sections.model import ModelSettings
from detecture.d2 import CfgNode, configurable
from detecture.data.prompts import PromptTemplate
from detecture.errors import CheckpointError
from detecture.modeling.stretch import stretch
from detecture.modeling.vlm.backbone import Backbone, load_backbone, random_backbone
from detecture.modeling.vlm.build import VLM_REGISTRY
from detecture.modeling.vlm.cache import cache_argument
from detecture.modeling.vlm.chat import Chat, load_prompts
from detecture.modeling.vlm.greedy import write_greedily
from detecture.modeling.vlm.hint import hinted
from detecture.modeling.vlm.prefix import prefix_of_prompts
from detecture.modeling.vlm.region_attention import (
    RegionBlocks,
    additive_mask,
    answer_attention,
    region_blocks,
)
from detecture.modeling.vlm.trained_parts import add_lora, add_seg_rows
from detecture.modeling.vlm.types import Generated, Prefix, TeacherForced, VisionFeatures, pad
from detecture.modeling.weights.random_weights import seeded

if TYPE_CHECKING:
    from transformers import DynamicCache


@VLM_REGISTRY.register()
class Qwen3VL(nn.Module):
    """transformers' Qwen3-VL with LoRA and two trainable `<|seg|>` rows."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        prompts: PromptTemplate,
        settings: VlmSettings | None = None,
        with_seg_rows: bool = True,
        seed: int = ModelSettings.random_weights_seed,
        max_regions: int = ModelSettings.max_regions,
        supervise_lm: bool = True,
    ) -> None:
        """Wrap a backbone.

        Args:
            backbone: model, tokenizer and image processor; changed in place.
            prompts: wording of prompts and answers.
            settings: see the MODEL.VLM keys.
            with_seg_rows: there are rows of `<|seg|>`; False is for a VLM that is asked as it comes
                (see `asking`).
            seed: of the adapters and of random rows.
            max_regions: further regions are left out.
            supervise_lm: there is a language-model loss; else what only it could train is frozen.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__()
        settings = settings or VlmSettings()
        self.source = backbone.source
        self.dispatched = backbone.dispatched
        self.image_processor = backbone.image_processor
        self.image_size = settings.image_size
        self.train_kind = settings.train
        self.attention = settings.attention
        self.lm_attention = settings.lm_attention
        self.max_regions = max_regions
        self.max_new_tokens = settings.max_new_tokens
        self.supervise_lm = supervise_lm
        self.train_seg_rows = with_seg_rows and settings.seg_rows == "trained"
        lora = settings.lora
        adapts = settings.train == "lora"
        self.lora = {"rank": lora.rank, "alpha": lora.alpha} if adapts else {}
        self.chat = Chat(backbone.tokenizer, prompts, settings.stop_supervision)
        self.newline_after_end = settings.newline_after_end

        self.model = backbone.model
        with seeded(seed):
            if adapts:
                add_lora(self.model, lora.rank, lora.alpha, lora.dropout)
            if with_seg_rows:
                start_id = self.chat.token_id(prompts.warm_start_token)
                add_seg_rows(self.model, self.chat.seg_id, start_id, settings.warm_start)
        self.model.requires_grad_(False)
        for _, parameter in self.trained_parameters():
            parameter.requires_grad_(True)
        if settings.gradient_checkpointing:
            self.model.model.language_model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        settings = VlmSettings.from_config(cfg)
        seed, dtype = cfg.MODEL.RANDOM_WEIGHTS_SEED, cfg.MODEL.DTYPE
        if settings.base:
            backbone = load_backbone(
                settings.base,
                dtype,
                quantization=settings.quantization,
                device_map=settings.device_map,
            )
        else:
            backbone = random_backbone(settings.config, seed, dtype)
        return {
            "backbone": backbone,
            "prompts": load_prompts(settings.prompts),
            "settings": settings,
            "seed": seed,
            "max_regions": cfg.MODEL.MAX_REGIONS,
            "supervise_lm": cfg.LOSS.LM_WEIGHT > 0,
        }

    # ---- parameters -------------------------------------------------------------------------

    def seg_row_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of the rows that train."""
        for name, parameter in self.named_parameters():
            if name.endswith(".row") and self.train_seg_rows and self._is_supervised(name):
                yield name, parameter

    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of the backbone that train: the adapters, or all, or none."""
        for name, parameter in self.named_parameters():
            whole = self.train_kind == "full" and self._is_supervised(name)
            if "lora_" in name or (whole and not name.endswith(".row")):
                yield name, parameter

    def _is_supervised(self, name: str) -> bool:
        return self.supervise_lm or "lm_head" not in name

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of all that trains, in some stage."""
        yield from self.backbone_parameters()
        yield from self.seg_row_parameters()

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self.model.config.text_config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where images and tokens go."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight.device

    def fingerprint(self, *, with_trained: bool = False) -> str:
        """What frozen features depend on; `with_trained` also on the values of what trains."""
        text = f"{self.source} {self.image_size} {self.model.dtype}"
        if not with_trained:
            return text
        digest = hashlib.sha256(text.encode())
        for name, parameter in self.trained_parameters():
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
        return f"{digest.hexdigest()} {self.attention} {self.chat.stop_supervision}"

    def _apply(self, fn: Any, recurse: bool = True) -> Qwen3VL:
        """Leave layers where transformers has dispatched them; `fn` moves or casts tensors."""
        return self if self.dispatched else super()._apply(fn, recurse)

    def header(self) -> dict[str, Any]:
        """What an adapter must say of this model."""
        return {"vlm": self.source, "lora": self.lora, **self.chat.header()}

    def take_header(self, header: dict[str, Any]) -> None:
        """Take over what an adapter was trained with.

        Raises:
            CheckpointError: it belongs to another vocabulary or other adapters.
        """
        if header.get("lora", self.lora) != self.lora:
            raise CheckpointError(
                f"the checkpoint's low-rank adapters are {header['lora']}, this model's "
                f"{self.lora}; set MODEL.VLM.LORA and MODEL.VLM.TRAIN as in its training"
            )
        self.chat.take_header(header)

    # ---- inputs ---------------------------------------------------------------------------------

    def encode_images(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Run the vision tower.

        Args:
            images: uint8 (3,H,W), of any size; they are stretched to a square.
        """
        squares_B3SS = stretch(images, self.image_size, self.device)
        whole = {"shortest_edge": 1, "longest_edge": 2 * self.image_size**2}
        inputs = self.image_processor(images=list(squares_B3SS), return_tensors="pt", size=whole)
        grid_B3 = inputs["image_grid_thw"].to(self.device)
        pixels = inputs["pixel_values"].to(self.device)
        if self.model.dtype == torch.float64:
            pixels = pixels.double()
        trains = self.train_kind == "full" and torch.is_grad_enabled()
        with torch.set_grad_enabled(trains):
            output = self.model.model.get_image_features(pixels, grid_B3, return_dict=True)
        tokens_BVD = torch.stack(list(output.pooler_output))
        deepstack = tuple(torch.stack(list(level)) for level in output.deepstack_features)
        return VisionFeatures(tokens_BVD, deepstack, grid_B3)

    def prefix(self, vision: VisionFeatures, counts: Sequence[str]) -> Prefix:
        """Prompts of a batch.

        Args:
            vision: the images.
            counts: for each the phrase of the number of regions.
        """
        rows = [self.chat.prompt_ids(count, vision.tokens_BVD.shape[1]) for count in counts]
        return prefix_of_prompts(self.model, self.chat, vision, rows)

    def answer_ids(self, descriptions: Sequence[str]) -> list[int]:
        """Token ids of the true answer: `Chat.answer_ids`, in training perhaps with a newline."""
        ids = self.chat.answer_ids(descriptions)
        return [*ids, self.chat.newline_id] if self.training and self.newline_after_end else ids

    # ---- passes ---------------------------------------------------------------------------------

    def teacher_forced(
        self, prefix: Prefix, answers: Sequence[Sequence[int]], *, predictions: bool
    ) -> TeacherForced:
        """One pass over given answers: states of the regions, and states to predict tokens from.

        Where the two see different things, the answer stands twice behind its prompt, each copy
        with its own mask and the same positions, so that prompt and image are run only once.

        Args:
            prefix: the prompts.
            answers: token ids, see `answer_ids`.
            predictions: whether states to predict tokens from are wanted.
        """
        ids_BA, valid_BA = pad(answers, self.chat.pad_id, left=False, device=self.device)
        blocks = self._blocks(ids_BA, valid_BA)
        kinds = [self.attention]
        if predictions and self.lm_attention != self.attention:
            kinds.append(self.lm_attention)
        masks = [answer_attention(blocks, kind) for kind in kinds]
        hidden = self._run(
            torch.cat([prefix.ids_BP, *[ids_BA] * len(kinds)], dim=1),
            prefix,
            masks,
            positions=torch.cat(
                [prefix.positions_3BP, *[prefix.answer_positions(ids_BA.shape[1])] * len(kinds)],
                dim=2,
            ),
        )
        prompt_length, answer_length = prefix.ids_BP.shape[1], ids_BA.shape[1]
        region_copy = hidden[:, prompt_length : prompt_length + answer_length]
        lm_copy = hidden[:, -answer_length:]
        predictions_BAD = None
        if predictions:  # the first answer token is predicted from the last one of the prompt
            last = hidden[:, prompt_length - 1 : prompt_length]
            predictions_BAD = torch.cat([last, lm_copy[:, :-1]], dim=1)
        states = _at(region_copy, blocks.seg_position_BK)
        return TeacherForced(ids_BA, valid_BA, states, blocks.count_B, predictions_BAD)

    def _run(
        self,
        ids_BL: Tensor,
        prefix: Prefix,
        masks: Sequence[Tensor],
        positions: Tensor,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """Last hidden states (B,L,D) of prompt and answers, or, with a cache, of the answers.

        `masks` are bool (B,A,A), one for each copy of the answers; `positions` are (3,B,L).
        """
        behind = cache is not None
        query = "answer" if behind else "all"
        mask = additive_mask(prefix.valid_BP, masks, self.model.dtype, query=query)
        with hinted(prefix.hint_BD):
            output = self.model.model(
                input_ids=ids_BL,
                attention_mask=mask,
                position_ids=positions,
                **cache_argument(self.model.model, cache),
                mm_encoder_outputs=None if behind else prefix.vision.as_encoder_output(),
                use_cache=behind,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, states: Tensor) -> Tensor:
        """States (..,D) to logits (..,N) of the N tokens of the vocabulary."""
        logits: Tensor = self.model.lm_head(states.to(self.model.dtype))
        return logits

    @torch.no_grad()
    def generate(self, prefix: Prefix) -> Generated:
        """Write answers (greedily), then read the regions' states in a second pass.

        The second pass runs the answers only: the keys and values of the prompt are those of the
        first, because no prompt token sees an answer.
        """
        cache = self.new_cache()
        answers = self.write(prefix, cache)
        blocks, states = self.extract(prefix, answers, cache)
        return Generated(
            states,
            blocks.count_B,
            [self.chat.descriptions(answer, self.max_regions) for answer in answers],
            [self.chat.tokenizer.decode(answer) for answer in answers],
            [self.chat.end_id not in answer for answer in answers],
        )

    def new_cache(self) -> DynamicCache:
        """An empty store of keys and values."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config.text_config)

    @torch.no_grad()
    def write(self, prefix: Prefix, cache: DynamicCache) -> list[list[int]]:
        """Answers as lists of token ids; see `write_greedily`."""
        return write_greedily(self.model, self.chat, prefix, cache, self.max_new_tokens)

    @torch.no_grad()
    def extract(
        self, prefix: Prefix, answers: Sequence[Sequence[int]], cache: DynamicCache
    ) -> tuple[RegionBlocks, Tensor]:
        """States at `<|seg|>` of written answers, from the prompt's keys and values.

        Args:
            prefix: the prompts.
            answers: what was written.
            cache: of prompt and, perhaps, answers; cut back to the prompt and left so.

        Returns:
            The blocks of the answers, and the states (B,K,D).
        """
        # What stands behind the last region changes no region.
        trimmed = [self.chat.until_last_region(answer, self.max_regions) for answer in answers]
        ids_BA, valid_BA = pad(trimmed, self.chat.pad_id, left=False, device=self.device)
        blocks = self._blocks(ids_BA, valid_BA)
        if not ids_BA.shape[1]:
            return blocks, torch.zeros(
                len(ids_BA), self.max_regions, self.hidden_size, device=self.device
            )
        prompt_length = prefix.ids_BP.shape[1]
        if cache.get_seq_length() > prompt_length:
            cache.crop(prompt_length - cache.get_seq_length())
        attention = [answer_attention(blocks, self.attention)]
        positions = prefix.answer_positions(ids_BA.shape[1])
        hidden = self._run(ids_BA, prefix, attention, positions, cache)
        return blocks, _at(hidden, blocks.seg_position_BK)

    def _blocks(self, ids_BA: Tensor, valid_BA: Tensor) -> RegionBlocks:
        chat = self.chat
        return region_blocks(ids_BA, valid_BA, chat.seg_id, chat.stop_supervision, self.max_regions)


def _at(states_BAD: Tensor, position_BK: Tensor) -> Tensor:
    """The states at positions in the answers: (B,K,D)."""
    index = position_BK[..., None].expand(-1, -1, states_BAD.shape[-1])
    return states_BAD.gather(1, index)
