"""CAT-Seg (arXiv 2303.11797): masks of any classes, by their names.

CLIP's patches and names are compared, and the cosines aggregated over patches and classes. How this
differs from the published code: images need no padding; every image of a batch is answered; text
features are right after each step of a training; inference takes bounded memory; the vocabulary is
that of a sample. What trains and what checkpoints keep is in `cat_seg_parts.py`.

Legend: B images, T names, P templates, E width of the common space, G grid, g side of the logits,
H, W size of an image, S side of what CLIP sees, V views, X further cost channels.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.semantic import (
    ClipSettings,
    CostAggregationSettings,
    SemanticLossSettings,
    SemanticTestSettings,
    SlidingSettings,
    VocabularySettings,
)
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, DatasetCatalog, MetadataCatalog, configurable
from detecture.data.vocabulary import Vocabulary
from detecture.errors import ConfigError
from detecture.modeling.clip.build import build_clip, orthogonal_adapter
from detecture.modeling.clip.class_texts import ClassTexts, template_sets
from detecture.modeling.clip.encoder import ClipEncoder, DenseFeatures
from detecture.modeling.clip.orthogonal import OrthogonalAdapter
from detecture.modeling.clip.tokenizer import Tokenize, build_tokenizer
from detecture.modeling.cost.answer import Seen
from detecture.modeling.cost.canvases import ViewCanvas, Viewing
from detecture.modeling.cost.loss import loss_count, semantic_loss_sum
from detecture.modeling.heads.bridge_head import build_head
from detecture.modeling.heads.cost_aggregation import CostHeadShape
from detecture.modeling.meta_arch.cat_seg_parts import CATSegParts
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.meta_arch.semantic import SemanticOutput

logger = logging.getLogger(__name__)

_MASK_LOSS = "loss_sem_seg"


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


@dataclass(frozen=True)
class Encoded:
    """One way of seeing an image, encoded.

    Attributes:
        canvas: the way.
        features: of its views, some at a time.
    """

    canvas: ViewCanvas
    features: Iterable[DenseFeatures]


@META_ARCH_REGISTRY.register()
class CATSeg(CATSegParts):
    """CLIP and the aggregation of its cost; classes are said by name, at any time.

    Attributes:
        names_at_a_time: in evaluation, where they do not meet; so many fit a processor's cache.
    """

    names_at_a_time = 8

    @configurable
    def __init__(
        self,
        *,
        clip: ClipEncoder,
        head: nn.Module,
        tokenize: Tokenize,
        ignore_value: int,
        clip_source: str = "",
        settings: ClipSettings | None = None,
        adapter: OrthogonalAdapter | None = None,
        vocabularies: tuple[Vocabulary | None, Vocabulary | None] = (None, None),
        pooling: Sequence[int] = CostAggregationSettings.pooling,
        loss: SemanticLossSettings | None = None,
        test: SemanticTestSettings | None = None,
        viewing: Viewing | None = None,
        most_names: int = VocabularySettings.most_names,
    ) -> None:
        """Join the parts.

        Args:
            clip: image and text encoder; what of it trains is set here.
            head: made for its sizes.
            tokenize: of the text encoder.
            ignore_value: label of pixels without one.
            clip_source: what CLIP's weights are, for checkpoints.
            settings: what trains of CLIP, and the templates.
            adapter: turns CLIP, where that is what trains; it has wrapped `clip`.
            vocabularies: for samples that bring none, in training and in evaluation.
            pooling: of the class aggregation in training.
            loss: what pixels without a label are.
            test: of evaluation.
            viewing: how images are seen in evaluation.
            most_names: of a vocabulary in evaluation.
        """
        super().__init__(clip, head, clip_source, settings or ClipSettings(), adapter)
        self.vocabularies = vocabularies
        self.training_pooling = tuple(pooling)
        self.loss = loss or SemanticLossSettings()
        self.test = test or SemanticTestSettings()
        self.viewing = viewing or Viewing(sliding=SlidingSettings(), flip=False)
        self.ignore_value = ignore_value
        self.most_names = most_names
        self.taps = clip.default_taps()
        templates = template_sets()[self.settings.templates]
        self.texts = ClassTexts(tokenize, clip.encode_text, self._text_weights, templates)

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
            "most_names": names.most_names,
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
        self._check_labels(samples, labels_BHW, names)
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
        return self.compare_features(features, names, pooling, chunk)

    def compare_features(
        self,
        features: DenseFeatures,
        names: Sequence[str],
        pooling: Sequence[int],
        chunk: int = 10**6,
    ) -> Compared:
        """See `compare`; of images that are encoded already."""
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
        """Patches (B,E,G,G) for the cost and for its guidance, and further costs (B,X,T,G,G)."""
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

    def read_classes(self, vocabulary: Vocabulary | None = None) -> Vocabulary:
        """See `SemanticModel.read_classes`."""
        vocabulary = self._vocabulary({} if vocabulary is None else {"vocabulary": vocabulary})
        with torch.no_grad(), self._turned():
            self.texts.features(vocabulary.names)
        return vocabulary

    def encode_image(self, sample: dict[str, Any]) -> list[Encoded]:
        """See `EncodesImages`: an image (`image` uint8 (3,H,W)) as CLIP sees it, for any names."""
        image_3HW = sample["image"].to(self.clip.device)
        canvases = self.viewing.canvases(*image_3HW.shape[-2:])
        with torch.no_grad(), self._turned():
            return [Encoded(canvas, list(self._features(canvas, image_3HW))) for canvas in canvases]

    def _answer(self, sample: dict[str, Any]) -> SemanticOutput:
        vocabulary = self._vocabulary(sample)
        size = (int(sample["height"]), int(sample["width"]))
        image_3HW = sample["image"].to(self.clip.device)
        if "encoding" in sample:
            encoded: list[Encoded] = sample["encoding"]
        else:
            canvases = self.viewing.canvases(*image_3HW.shape[-2:])
            encoded = [Encoded(canvas, self._features(canvas, image_3HW)) for canvas in canvases]
        with torch.no_grad(), self._turned():
            logits = [self._logits(one, image_3HW, vocabulary.names) for one in encoded]
        seen = Seen([one.canvas for one in encoded], logits, vocabulary.class_of_name, size)
        threshold = sample.get("background_threshold", self.test.background_threshold)
        most_bytes = int(self.test.max_score_gb * 1e9)
        return SemanticOutput(seen, vocabulary.classes, threshold, most_bytes)

    def _features(self, canvas: ViewCanvas, image_3HW: Tensor) -> Iterator[DenseFeatures]:
        """Of the views of an image, some at a time."""
        for views in self.viewing.batches(canvas, image_3HW):
            yield self.clip.encode_image(self.clip.preprocess(views), self._all_taps())

    def _logits(self, encoded: Encoded, image_3HW: Tensor, names: Sequence[str]) -> Tensor:
        """Of the views of an image, (V,T,g,g)."""
        del image_3HW
        compared = (
            self.compare_features(one, names, self.test.pooling, self.names_at_a_time)
            for one in encoded.features
        )
        parts = [one.logits_BTgg.float() for one in compared]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _vocabulary(self, sample: dict[str, Any]) -> Vocabulary:
        own = self.vocabularies[0 if self.training else 1]
        vocabulary: Vocabulary | None = sample.get("vocabulary", own)
        if vocabulary is None:
            part = "TRAIN" if self.training else "TEST"
            raise ConfigError(
                f"no classes are given: name them (--classes), or set MODEL.VOCABULARY.{part} or "
                f"a data set in DATASETS.{part} that has some"
            )
        if self.training:
            return vocabulary
        if self.test.synonyms == "first":
            vocabulary = vocabulary.first_names()
        if len(vocabulary.names) > self.most_names:
            raise ConfigError(
                f"{len(vocabulary.names):,} names are given, and MODEL.VOCABULARY.MOST_NAMES is "
                f"{self.most_names:,}; ask for them in several parts, or set it higher (the text "
                "encoder alone then takes minutes on a CPU)"
            )
        return vocabulary

    def _check_labels(
        self, samples: list[dict[str, Any]], labels_BHW: Tensor, names: Sequence[str]
    ) -> None:
        """See that all labels (B,H,W) are those of names, or of no class."""
        wrong = (labels_BHW != self.ignore_value) & ((labels_BHW < 0) | (labels_BHW >= len(names)))
        if bool(wrong.any()):
            first = int(wrong.flatten(1).any(dim=1).int().argmax())
            raise ConfigError(
                f"{samples[first].get('file_name', f'image {first} of the batch')}: its ground "
                f"truth has the label {int(labels_BHW[wrong][0])}; the class list has "
                f"{len(names)} names, so that labels are 0 to {len(names) - 1}, and "
                f"{self.ignore_value} (MODEL.SEM_SEG_HEAD.IGNORE_VALUE) where a pixel has no "
                "class; correct the label map, or complete the class list"
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
    if unknown := [dataset for dataset in datasets if dataset not in DatasetCatalog]:
        # No error: all images may bring, or be asked for, classes of their own.
        logger.warning(
            "the data set %s (DATASETS) is not registered, so the classes that it may have are not "
            "known",
            ", ".join(unknown),
        )
    return None
