"""Trains the encoders of an AHSSeg by themselves: patches and names into one space.

The first stage of a small model, several times as fast as with the head: the cosines of patches and
names alone must say which name a patch has. What is learnt here is loaded by MODEL.WEIGHTS.

Legend: B images, T names, P templates, E width of the common space, G grid, M labelled patches,
R regions, N regions or names, C concepts of a sort, S side of what CLIP sees, H, W size of the
labels.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from detecture.d2 import META_ARCH_REGISTRY
from detecture.data.vocabulary import Vocabulary
from detecture.errors import ConfigError
from detecture.modeling.ahs.patch_labels import class_means, patch_labels
from detecture.modeling.meta_arch.ahs_seg import AHSSeg
from detecture.modeling.meta_arch.inputs import takes_plain_inputs

_TEMPERATURE = 0.07
_BATCH_WEIGHT = 0.5
_SORTS = ("kind", "color", "position")


@META_ARCH_REGISTRY.register()
class NameAlignment(AHSSeg):
    """AHSSeg whose head waits; its checkpoints are those of AHSSeg."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `AHSSeg`."""
        super().__init__(*arguments, **named)
        for part in (self.head, self.fpn, self.rectification, self.prototypes):
            if part is not None:
                part.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of `AHSSeg` that train here."""
        found = []
        for group in super().parameter_groups():
            pairs = zip(group["params"], group["names"], strict=True)
            kept = [(p, name) for p, name in pairs if p.requires_grad]
            if kept:
                parameters, names = zip(*kept, strict=True)
                found.append({**group, "params": list(parameters), "names": list(names)})
        return found

    def loss_normalizers(self, batched_inputs: list[dict[str, Any]]) -> dict[str, float]:
        """What the losses are divided by: the number of images."""
        return {"images": float(len(batched_inputs))}

    @takes_plain_inputs
    def forward(
        self, batched_inputs: list[dict[str, Any]], normalizers: dict[str, float] | None = None
    ) -> Any:
        """In training mapped dicts to losses, otherwise as `AHSSeg`.

        Args:
            batched_inputs: see `CATSeg.forward`; each with a `vocabulary` of its own.
            normalizers: see `loss_normalizers`.

        Returns:
            `loss_patches`, cross-entropy of a patch among the names of its image, and
            `loss_regions`, of the mean patch of a region among the names of the whole batch and of
            a name among the regions of its image; `loss_concepts`, of a region's mean patch and of
            a name among the batch's kinds of texture, colours and places; scalars, in nats.

        Raises:
            ConfigError: images come without names of their own.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = (normalizers or self.loss_normalizers(batched_inputs))["images"]
        vocabularies = [_vocabulary(sample) for sample in batched_inputs]
        every = list(dict.fromkeys(name for own in vocabularies for name in own.names))
        place = {name: number for number, name in enumerate(every)}
        pixels_B3SS = self.clip.preprocess([sample["image"] for sample in batched_inputs])
        with self._turned():
            tokens_BEGG = self.clip.encode_image(pixels_B3SS).tokens_BEGG
            text_TPE = self.texts.features(every)
        text_TE = functional.normalize(text_TPE.mean(dim=1), dim=-1)
        spaces = [(functional.normalize(tokens_BEGG, dim=1), text_TE)]
        if self.projection is not None:
            patches_BEGG = self.projection.patches(tokens_BEGG)
            spaces.append((patches_BEGG, self.projection.names(text_TPE)))
        zero = 0.0 * (tokens_BEGG.sum() + text_TE.sum())
        losses = {"loss_patches": zero, "loss_regions": zero}
        losses["loss_concepts"] = zero + self._of_concepts(
            batched_inputs, tokens_BEGG, text_TE, place
        )
        for number, (sample, own) in enumerate(zip(batched_inputs, vocabularies, strict=True)):
            labels_1HW = sample["sem_seg"][None].to(self.clip.device)
            labels_1GG = patch_labels(labels_1HW, tokens_BEGG.shape[-1])
            sets = _sets_of_names(own)
            for names in sets:
                index_T = torch.tensor([place[name] for name in names], device=text_TE.device)
                for patches, all_names in spaces:
                    one = (patches[number : number + 1], labels_1GG, all_names, index_T)
                    by_patch, by_region = self._of_image(*one)
                    share = images * len(spaces) * len(sets)
                    losses["loss_patches"] = losses["loss_patches"] + by_patch / share
                    losses["loss_regions"] = losses["loss_regions"] + by_region / share
        return losses

    def _of_concepts(
        self,
        samples: list[dict[str, Any]],
        tokens_BEGG: Tensor,
        text_TE: Tensor,
        place: dict[str, int],
    ) -> Tensor:
        """Scalar: regions and names are to lie near what is true of them.

        A cosine between an image and a name says something to neither before both have learnt, so
        that they learn slowly from each other alone. Concepts lie where they are from the start.

        Args:
            samples: with `concepts`, one dict for each class of their vocabulary.
            tokens_BEGG: of them.
            text_TE: of all names.
            place: of a name among them.
        """
        regions: list[Tensor] = []
        of_regions: list[dict[str, Sequence[str]]] = []
        names: list[int] = []
        of_names: list[dict[str, Sequence[str]]] = []
        for number, sample in enumerate(samples):
            own, concepts = _vocabulary(sample), sample["concepts"]
            labels_1HW = sample["sem_seg"][None].to(tokens_BEGG.device)
            labels_1GG = patch_labels(labels_1HW, tokens_BEGG.shape[-1])
            one_1EGG = tokens_BEGG[number : number + 1]
            means_TE, count_T = class_means(one_1EGG, labels_1GG, len(own), self.ignore_value)
            for index in (count_T > 0).nonzero()[:, 0].tolist():
                regions.append(means_TE[index])
                of_regions.append(concepts[index])
            for item, known in zip(own.items, concepts, strict=True):
                for name in item.names:
                    names.append(place[name])
                    of_names.append(known)
        loss = _concept_loss(text_TE[names], of_names)
        if regions:
            loss = loss + _concept_loss(torch.stack(regions), of_regions)
        return loss

    def _of_image(
        self, patches_1EGG: Tensor, labels_1GG: Tensor, names_TE: Tensor, index_T: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both losses (scalars) of one image, whose names are at `index_T` among all."""
        own_TE = names_TE[index_T]
        means_TE, count_T = class_means(patches_1EGG, labels_1GG, len(index_T), self.ignore_value)
        present_T = count_T > 0
        if not bool(present_T.any()):
            zero = 0.0 * patches_1EGG.sum()
            return zero, zero
        known_1GG = labels_1GG != self.ignore_value
        patches_ME = patches_1EGG.movedim(1, -1)[known_1GG]
        logits_MT = patches_ME @ own_TE.T / _TEMPERATURE
        # Small regions count as much as large ones.
        weight_M = 1.0 / count_T[labels_1GG[known_1GG]]
        entropy_M = functional.cross_entropy(logits_MT, labels_1GG[known_1GG], reduction="none")
        by_patch = (weight_M * entropy_M).sum() / weight_M.sum()
        means_RE = functional.normalize(means_TE[present_T], dim=-1)
        among_all = functional.cross_entropy(
            means_RE @ names_TE.T / _TEMPERATURE, index_T[present_T]
        )
        to_regions_RR = own_TE[present_T] @ means_RE.T / _TEMPERATURE
        regions_R = torch.arange(len(means_RE), device=means_RE.device)
        among_regions = functional.cross_entropy(to_regions_RR, regions_R)
        return by_patch, _BATCH_WEIGHT * among_all + among_regions


def _concept_loss(features_NE: Tensor, concepts: Sequence[dict[str, Sequence[str]]]) -> Tensor:
    """Cross-entropy of features among all concepts of a sort, a scalar: the mean over sorts."""
    features_NE = functional.normalize(features_NE, dim=-1)
    loss = features_NE.new_zeros(())
    for sort in _SORTS:
        known = sorted({word for one in concepts for word in one[sort]})
        vectors_CE = torch.stack([_concept(f"{sort} {w}", features_NE.shape[1]) for w in known])
        logits_NC = features_NE @ vectors_CE.to(features_NE).T / _TEMPERATURE
        truth_NC = torch.zeros_like(logits_NC)
        for row, one in enumerate(concepts):
            for word in one[sort]:
                truth_NC[row, known.index(word)] = 1 / len(one[sort])
        loss = loss + functional.cross_entropy(logits_NC, truth_NC) / len(_SORTS)
    return loss


@cache
def _concept(text: str, width: int) -> Tensor:
    """Where a concept lies, (E,): somewhere, the same for ever; two of them hardly ever close."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    vector_E = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    return functional.normalize(torch.from_numpy(vector_E), dim=0)


def _vocabulary(sample: dict[str, Any]) -> Vocabulary:
    if "vocabulary" not in sample or "concepts" not in sample:
        raise ConfigError(
            f"image {sample.get('image_id')!r} comes without names of its own: NameAlignment "
            "learns from DATASETS.TRAIN synthetic_open_train alone"
        )
    found: Vocabulary = sample["vocabulary"]
    return found


def _sets_of_names(vocabulary: Vocabulary) -> list[list[str]]:
    """One name of each class, another one, and so on; classes with fewer begin again."""
    names = [list(item.names) for item in vocabulary.items]
    return [[own[i % len(own)] for own in names] for i in range(max(map(len, names)))]
