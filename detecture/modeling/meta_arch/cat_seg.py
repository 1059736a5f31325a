"""CAT-Seg (arXiv 2303.11797): masks of any classes, by their names.

CLIP's patches and names are compared, and the cosines aggregated over patches and classes. How this
differs from the published code: images need no padding; every image of a batch is answered; text
features are right after each step of a training; inference takes bounded memory; the vocabulary is
that of a sample.

Legend: B images, T names, P templates, E width of the common space, G grid, g side of the logits,
H, W size of an image, V views.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detecture.checkpoint.misfits import take_over
from detecture.config.sections.semantic import (
    ClipSettings,
    CostAggregationSettings,
    SemanticLossSettings,
    SemanticTestSettings,
    VocabularySettings,
)
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, MetadataCatalog, configurable
from detecture.data.vocabulary import Vocabulary
from detecture.errors import ConfigError
from detecture.modeling.clip.build import build_clip
from detecture.modeling.clip.class_texts import ClassTexts, template_sets
from detecture.modeling.clip.encoder import ClipEncoder, DenseFeatures
from detecture.modeling.clip.orthogonal import Modulation, OrthogonalAdapter
from detecture.modeling.clip.tokenizer import Tokenize, build_tokenizer
from detecture.modeling.cost.answer import Seen
from detecture.modeling.cost.canvases import Canvas, Viewing
from detecture.modeling.cost.loss import loss_count, semantic_loss_sum
from detecture.modeling.cost.published_names import from_published, is_published
from detecture.modeling.heads.bridge_head import build_head
from detecture.modeling.heads.cost_aggregation import CostHeadShape
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.meta_arch.semantic import SemanticOutput
from detecture.modeling.weights.header_check import check_header

_EMBED = "head.aggregator.embed.weight"
_IN_CHECKPOINT = "in the checkpoint itself"
_MASK_LOSS = "loss_sem_seg"
_CHUNK = 32  # names at a time in evaluation, where they do not meet


@dataclass(frozen=True)
class Compared:
    """Images and names in CLIP's space, and what was made of them.

    Attributes:
        features: of the images, as CLIP gives them.
        text_TPE: of the names.
        logits_BTgg: of the masks.
    """

    features: DenseFeatures
    text_TPE: Tensor
    logits_BTgg: Tensor


@META_ARCH_REGISTRY.register()
class CATSeg(nn.Module):
    """CLIP and the aggregation of its cost; classes are said by name, at any time."""

    extra_costs = 0

    @configurable
    def __init__(
        self,
        *,
        clip: ClipEncoder,
        head: nn.Module,
        tokenize: Tokenize,
        clip_source: str = "",
        settings: ClipSettings | None = None,
        adapter: OrthogonalAdapter | None = None,
        vocabularies: tuple[Vocabulary | None, Vocabulary | None] = (None, None),
        pooling: Sequence[int] = CostAggregationSettings.pooling,
        loss: SemanticLossSettings | None = None,
        test: SemanticTestSettings | None = None,
        viewing: Viewing | None = None,
        ignore_value: int = 255,
    ) -> None:
        """Join the parts.

        Args:
            clip: image and text encoder; what of it trains is set here.
            head: made for its sizes.
            tokenize: of the text encoder.
            clip_source: what CLIP's weights are, for checkpoints.
            settings: what trains of CLIP, and the templates.
            adapter: turns CLIP, where that is what trains; it has wrapped `clip`.
            vocabularies: for samples that bring none, in training and in evaluation.
            pooling: of the class aggregation in training.
            loss: what pixels without a label are.
            test: of evaluation.
            viewing: how images are seen in evaluation.
            ignore_value: label of pixels without one.
        """
        super().__init__()
        self.clip, self.head, self.adapter = clip, head, adapter
        self.clip_source = clip_source
        self.settings = settings or ClipSettings()
        self.vocabularies = vocabularies
        self.training_pooling = tuple(pooling)
        self.loss = loss or SemanticLossSettings()
        self.test = test or SemanticTestSettings()
        self.viewing = viewing or Viewing()
        self.ignore_value = ignore_value
        self.taps = clip.default_taps()
        self._keeps_all = False
        templates = template_sets()[self.settings.templates]
        self.texts = ClassTexts(tokenize, clip.encode_text, self._text_weights, templates)
        clip.requires_grad_(False)
        for parameter in self._trained_of_clip().values():
            parameter.requires_grad_(True)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        settings = ClipSettings.from_config(cfg)
        clip, source = build_clip(settings, cfg.MODEL.RANDOM_WEIGHTS_SEED)
        shape = CostHeadShape(
            width=clip.width,
            embed_width=clip.embed_width,
            grid=clip.grid,
            templates=len(template_sets()[settings.templates]),
            extra_costs=cls.extra_costs_of(cfg),
        )
        names = VocabularySettings.from_config(cfg)
        return {
            "clip": clip,
            "clip_source": source,
            "settings": settings,
            "head": build_head(cfg, shape),
            "tokenize": build_tokenizer(
                settings.tokenizer, clip.context_length, clip.vocabulary_size
            ),
            "adapter": cls.adapter_of(cfg, clip, settings),
            "vocabularies": (
                _vocabulary(names.train, cfg.DATASETS.TRAIN),
                _vocabulary(names.test, cfg.DATASETS.TEST),
            ),
            "pooling": cfg.MODEL.COST_AGGREGATION.POOLING,
            "loss": SemanticLossSettings.from_config(cfg),
            "test": SemanticTestSettings.from_config(cfg),
            "viewing": Viewing.from_config(cfg),
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    @classmethod
    def extra_costs_of(cls, cfg: CfgNode) -> int:
        """Cost channels beside CLIP's cosines."""
        del cfg
        return 0

    @classmethod
    def adapter_of(
        cls, cfg: CfgNode, clip: ClipEncoder, settings: ClipSettings
    ) -> OrthogonalAdapter | None:
        """What turns CLIP; None where that is not what trains."""
        del cfg
        return orthogonal_adapter(clip, settings)

    # ---- what trains ------------------------------------------------------------------------

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with a learning rate of their own; norms apart, without decay."""
        groups, norms = [], self._without_decay()
        for name, named in self._trained_by_group().items():
            for decays in (True, False):
                chosen = {key: p for key, p in named.items() if (id(p) in norms) != decays}
                if chosen:
                    group = {"params": list(chosen.values()), "names": list(chosen)}
                    groups.append({"name": name, "decays": decays, **group})
        return groups

    def _trained_by_group(self) -> dict[str, dict[str, nn.Parameter]]:
        groups = {
            "head": dict(self.head.named_parameters(prefix="head")),
            "clip": {f"clip.{name}": p for name, p in self._trained_of_clip().items()},
        }
        if self.adapter is not None:
            groups["adapter"] = dict(self.adapter.named_parameters(prefix="adapter"))
        return groups

    def _trained_of_clip(self) -> dict[str, nn.Parameter]:
        """By their names in `clip`; CAT-Seg trains weights of queries and values, no biases."""
        kind = self.settings.finetune
        if kind == "full":
            idle = self.clip.idle_parameters()
            return {n: p for n, p in self.clip.named_parameters() if n not in idle}
        ends = ("q_proj.weight", "v_proj.weight") if kind == "attention" else ()
        return {n: p for n, p in self.clip.named_parameters() if ends and n.endswith(ends)}

    def _without_decay(self) -> set[int]:
        """Of norms, and of what says how far CLIP is turned: neither is to be drawn to zero."""
        kinds = (nn.LayerNorm, nn.GroupNorm, Modulation)
        chosen = [module for module in self.modules() if isinstance(module, kinds)]
        return {id(parameter) for module in chosen for parameter in module.parameters()}

    def _text_weights(self) -> Iterable[nn.Parameter]:
        yield from self.clip.model.text_model.parameters()
        yield from self.clip.model.text_projection.parameters()
        if self.adapter is not None:
            yield from self.adapter.parameters()

    def train(self, mode: bool = True) -> "CATSeg":
        """As torch's; CLIP has no dropout to be kept from."""
        super().train(mode)
        return self

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All that trains, and what a running mean made; of a published file all."""
        if self._keeps_all:
            return {name: value.detach() for name, value in self.state_dict().items()}
        named = {k: v for group in self._trained_by_group().values() for k, v in group.items()}
        buffers = {
            name: value
            for name, value in self.state_dict().items()
            if name not in named and not name.startswith("clip.")
        }
        return {name: value.detach() for name, value in {**named, **buffers}.items()}

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, or a checkpoint that CAT-Seg released.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """
        if is_published(state):
            state = self._fitted(from_published(state))
            self._keep_all()
            own = self.state_dict()
            take_over({name: own[name] for name in own if _is_plain(name)}, state)
        else:
            take_over(self.checkpoint_state(), state)

    def _fitted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A plain CAT-Seg's tensors, of any shapes, as this model holds them."""
        own, fitted = self.state_dict(), {}
        for name, tensor in state.items():
            if name not in own and (wrapped := _wrapped(name)) in own:
                name = wrapped
            missing = own[name].shape[1] - tensor.shape[1] if name == _EMBED else 0
            if missing > 0:  # further cost channels, which do nothing as yet
                tensor = torch.cat([tensor, tensor.new_zeros(len(tensor), missing, 7, 7)], dim=1)
            fitted[name] = tensor
        return fitted

    def _keep_all(self) -> None:
        """CLIP's own weights go into checkpoints, too: nothing else says where they are from."""
        self._keeps_all, self.clip_source = True, _IN_CHECKPOINT

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return {"clip": self.clip_source, "finetune": self.settings.finetune}

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Compare with what a checkpoint was trained with.

        Raises:
            CheckpointError: it was another CLIP, or another part of it was trained.
        """
        if header.get("clip") == _IN_CHECKPOINT:
            self._keep_all()
        check_header(self.checkpoint_header(), header, ["clip", "finetune"])

    # ---- images and names -------------------------------------------------------------------

    @takes_plain_inputs
    def forward(
        self, batched_inputs: list[dict[str, Any]], normalizers: dict[str, float] | None = None
    ) -> Any:
        """In training mapped dicts to losses, otherwise to semantic outputs.

        Args:
            batched_inputs: mapped dicts with `image` uint8 (3,H,W), and in training `sem_seg` int64
                (H,W). A sample's own `vocabulary` counts instead of the model's; in training
                samples with the same one are seen together.
            normalizers: training only: sums of `loss_normalizers` over the whole effective batch;
                None: those of this batch.

        Returns:
            Losses by name (scalars), or a list of `SemanticOutput`.
        """
        if not self.training:
            return [self._answer(sample) for sample in batched_inputs]
        normalizers = normalizers or self.loss_normalizers(batched_inputs)
        parts: dict[Vocabulary, list[dict[str, Any]]] = {}
        for sample in batched_inputs:
            parts.setdefault(self._vocabulary(sample), []).append(sample)
        losses: dict[str, Tensor] = {}
        for vocabulary, samples in parts.items():
            found = self._losses(samples, vocabulary.first_of_each(), normalizers)
            share = len(samples) / len(batched_inputs)
            for name, loss in found.items():
                # That of the masks is a part of a mean already.
                weighted = loss if name == _MASK_LOSS else share * loss
                losses[name] = losses[name] + weighted if name in losses else weighted
        return losses

    def _losses(
        self, samples: list[dict[str, Any]], names: Sequence[str], normalizers: dict[str, float]
    ) -> dict[str, Tensor]:
        """Losses (scalars) of samples with the same names."""
        labels_BHW = torch.stack([sample["sem_seg"] for sample in samples]).to(self.clip.device)
        self._check_labels(labels_BHW, names)
        pixels_B3SS = self.clip.preprocess([sample["image"] for sample in samples])
        with self._turned():
            compared = self.compare(pixels_B3SS, names, self.training_pooling)
            total = semantic_loss_sum(
                compared.logits_BTgg, labels_BHW, self.ignore_value, self.loss.ignore
            )
            losses = {_MASK_LOSS: total / max(normalizers["pixels"] * len(names), 1)}
            return losses | self.further_losses(compared, pixels_B3SS, labels_BHW)

    def loss_normalizers(self, batched_inputs: list[dict[str, Any]]) -> dict[str, float]:
        """What the sum of `loss_sem_seg` is divided by, beside the number of classes."""
        labels = [sample["sem_seg"] for sample in batched_inputs]
        counts = [loss_count(one, self.ignore_value, self.loss.ignore) for one in labels]
        return {"pixels": float(sum(counts))}

    def compare(
        self, pixels_B3SS: Tensor, names: Sequence[str], pooling: Sequence[int], chunk: int = 10**6
    ) -> Compared:
        """Logits of the masks of names on normalised pixels; everything acts as in training."""
        features = self.clip.encode_image(pixels_B3SS, self._all_taps())
        text_TPE = self.texts.features(names)
        tokens_BEGG, appearance_BEGG, extra_BXTGG = self.head_inputs(features, text_TPE)
        logits_BTgg = self.head(
            tokens_BEGG,
            appearance_BEGG,
            [features.taps[tap] for tap in self.taps],
            text_TPE,
            pooling=pooling,
            extra_BXTGG=extra_BXTGG,
            chunk=chunk,
        )
        return Compared(features, text_TPE, logits_BTgg)

    def head_inputs(
        self, features: DenseFeatures, text_TPE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Patches (B,E,G,G) for the cost and for its guidance, and further cost channels."""
        del text_TPE
        return features.tokens_BEGG, features.tokens_BEGG, None

    def further_losses(
        self, compared: Compared, pixels_B3SS: Tensor, labels_BHW: Tensor
    ) -> dict[str, Tensor]:
        """Losses beside that of the masks, scalars by name."""
        del compared, pixels_B3SS, labels_BHW
        return {}

    def _all_taps(self) -> Sequence[int]:
        return self.taps

    @contextmanager
    def _turned(self) -> Iterator[None]:
        if self.adapter is None:
            yield
        else:
            with self.adapter.acting():
                yield

    # ---- answers ----------------------------------------------------------------------------

    def _answer(self, sample: dict[str, Any]) -> SemanticOutput:
        vocabulary = self._vocabulary(sample)
        if self.test.synonyms == "first":
            vocabulary = vocabulary.first_names()
        size = (int(sample["height"]), int(sample["width"]))
        image_3HW = sample["image"].to(self.clip.device)
        canvases = self.viewing.canvases(*image_3HW.shape[-2:])
        with torch.no_grad(), self._turned():
            logits = [self._logits(canvas, image_3HW, vocabulary.names) for canvas in canvases]
        seen = Seen(canvases, logits, vocabulary.class_of_name, size)
        return SemanticOutput(seen, vocabulary.classes, self.test.background_threshold)

    def _logits(self, canvas: Canvas, image_3HW: Tensor, names: Sequence[str]) -> Tensor:
        """Of the views of an image, (V,T,g,g)."""
        views, found = canvas.views(image_3HW), []
        batch = self.viewing.sliding.batch
        for first in range(0, len(views), batch):
            pixels_B3SS = self.clip.preprocess(views[first : first + batch])
            compared = self.compare(pixels_B3SS, names, self.test.pooling, _CHUNK)
            found.append(compared.logits_BTgg.float())
        return torch.cat(found)

    def _vocabulary(self, sample: dict[str, Any]) -> Vocabulary:
        own = self.vocabularies[0 if self.training else 1]
        vocabulary: Vocabulary | None = sample.get("vocabulary", own)
        if vocabulary is None:
            part = "TRAIN" if self.training else "TEST"
            raise ConfigError(
                f"no classes are given: name them (--classes), or set MODEL.VOCABULARY.{part} or "
                f"a data set in DATASETS.{part} that has some"
            )
        return vocabulary

    def _check_labels(self, labels_BHW: Tensor, names: Sequence[str]) -> None:
        wrong = (labels_BHW != self.ignore_value) & ((labels_BHW < 0) | (labels_BHW >= len(names)))
        if bool(wrong.any()):
            raise ConfigError(
                f"label {int(labels_BHW[wrong][0])} in the ground truth: the class list has "
                f"{len(names)} names, and {self.ignore_value} (MODEL.SEM_SEG_HEAD.IGNORE_VALUE) is "
                "no label"
            )


def _is_plain(name: str) -> bool:
    """Whether CAT-Seg has a tensor of that name."""
    return name.startswith(("head.", "clip.model.")) and not name.endswith("position_ids")


def _wrapped(name: str) -> str:
    """The name of a tensor of CLIP's attention where that is turned."""
    layer, _, end = name.rpartition(".")
    return f"{layer}.base.{end}"


def orthogonal_adapter(
    clip: ClipEncoder,
    settings: ClipSettings,
    modulation: Modulation | None = None,
    interpolation: str = "linear",
) -> OrthogonalAdapter | None:
    """H-CLIP's fine-tuning of `clip` (in place); None where something else trains.

    Args:
        clip: the encoder.
        settings: what trains, and the blocks.
        modulation: HA-HEM.
        interpolation: of that.
    """
    if settings.finetune != "orthogonal":
        return None
    own = settings.orthogonal
    return OrthogonalAdapter(
        clip,
        block=own.block,
        text_cayley=own.text_cayley,
        image_cayley=own.image_cayley,
        relation=own.relation,
        modulation=modulation,
        interpolation=interpolation,
    )


def _vocabulary(named: str, datasets: Sequence[str]) -> Vocabulary | None:
    """The class list of that name or file, else that of the first data set that has one."""
    if named:
        return Vocabulary.load(named)
    for dataset in datasets:
        classes = MetadataCatalog.get(dataset).get("vocabulary", None)
        if classes is not None:
            return Vocabulary.of(classes)
        classes = MetadataCatalog.get(dataset).get("stuff_classes", None)
        if classes is not None:
            return Vocabulary.of(list(classes))
    return None
