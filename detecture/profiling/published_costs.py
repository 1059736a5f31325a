"""What CAT-Seg's published code spends beyond what its answer needs, put back for comparison.

Each cost is a switch of its own, applied to a model from outside; none changes the scores. The
model that ships has no such switches.

Legend: B images, T names, A tokens of a text, N patches, C channels, D channels of a guidance, V
views, S side of a window, g side of the logits, H, W size of an image, L tokens of a view.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.errors import ConfigError
from detecture.modeling.clip.class_texts import ClassTexts
from detecture.modeling.clip.tokenizer import build_tokenizer
from detecture.modeling.cost.canvases import ViewCanvas
from detecture.modeling.cost.classwise import ClassAggregation
from detecture.modeling.meta_arch.cat_seg import CATSeg

_ALL_AT_ONCE = 10**6


@contextmanager
def full_context(model: CATSeg) -> Iterator[None]:
    """Texts are padded to the whole context, 77 tokens, instead of cut to the longest.

    As with `fresh_texts`, texts that were read before are unknown.
    """
    with fresh_texts(model, pad=True):
        yield


@contextmanager
def padded_classes(model: CATSeg) -> Iterator[None]:
    """Classes are padded to 256, and the padding is aggregated one by one, though all is alike.

    The learnt padding stands for each missing class. It is cut off once the classes have met.
    """
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, ClassAggregation):
                padded = partial(_padded, module, module.meet)
                stack.enter_context(_swapped(module, "meet", padded))
        yield


@contextmanager
def unfold_and_fold(model: CATSeg) -> Iterator[None]:
    """All windows are unfolded and seen at once, and the scores of all classes folded together.

    For all names, every view is enlarged to a window, and the canvas to the size asked for.
    """
    with _swapped(model, "forward", partial(_unfolded_answers, model)):
        yield


@contextmanager
def dead_queries(model: CATSeg) -> Iterator[None]:
    """The last visual block computes queries and keys, projects them, and throws them away."""
    attention = model.clip.model.vision_model.encoder.layers[-1].self_attn

    def waste(_: nn.Module, given: tuple[Tensor], __: Tensor) -> None:
        """Project the input (B,L,C) of the values for nothing."""
        for projection in (attention.q_proj, attention.k_proj):
            attention.out_proj(projection(given[0]))

    handle = attention.v_proj.register_forward_hook(waste)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def all_at_once(model: CATSeg) -> Iterator[None]:
    """Where names or patches do not meet, all are computed at once, instead of some at a time."""
    with _swapped(model, "names_at_a_time", _ALL_AT_ONCE):
        yield


Switch = Callable[[CATSeg], AbstractContextManager[None]]

COSTS: dict[str, Switch] = {
    "full_context": full_context,
    "padded_classes": padded_classes,
    "unfold_and_fold": unfold_and_fold,
    "dead_queries": dead_queries,
}
"""Those that `published` stands for."""


@contextmanager
def fresh_texts(model: CATSeg, *, pad: bool = False) -> Iterator[None]:
    """The model has read no names yet.

    Args:
        model: in any state.
        pad: texts are padded to the whole context.
    """
    clip = model.clip
    tokenize = build_tokenizer(model.settings.tokenizer, clip.context_length, clip.vocabulary_size)

    def padded(texts: Sequence[str]) -> Tensor:
        """Token ids (T,A), A the whole context."""
        ids_TA = tokenize(texts)
        return functional.pad(ids_TA, (0, clip.context_length - ids_TA.shape[1]))

    weights = clip.parameters
    texts = ClassTexts(
        padded if pad else tokenize, clip.encode_text, weights, model.texts.templates
    )
    with _swapped(model, "texts", texts):
        yield


def unfoldable(model: CATSeg, size: tuple[int, int]) -> tuple[ViewCanvas, tuple[int, int]]:
    """The one canvas of an image of that size, and the canvas' own size.

    Raises:
        ConfigError: unfolding would leave pixels that no window covers, or there are no windows.
    """
    canvases = model.viewing.canvases(*size)
    canvas = canvases[0]
    if len(canvases) > 1 or canvas.size is None or not canvas.whole_weight:
        raise ConfigError(
            "the published code sees an image once, in windows and as a whole: set "
            "TEST.SLIDING.ENABLED True, TEST.SLIDING.GLOBAL_WEIGHT 0.5, TEST.AUG.ENABLED False"
        )
    if any((side - canvas.window) % canvas.step for side in canvas.size):
        raise ConfigError(
            f"windows of {canvas.window} pixels, {canvas.step} apart, do not fill a canvas of "
            f"{canvas.size}, which unfolding needs: set TEST.SLIDING.CANVAS (640, 640), KERNEL 384 "
            "and OVERLAP 0.3333"
        )
    return canvas, canvas.size


def _unfolded_answers(model: CATSeg, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`label_map`, `score` (H,W) and `sem_seg` (T,H,W), of classes with one name each."""
    return [_unfolded_answer(model, sample) for sample in samples]


@torch.no_grad()
def _unfolded_answer(model: CATSeg, sample: dict[str, Any]) -> dict[str, Any]:
    """See `_unfolded_answers`."""
    image_13HW = sample["image"].to(model.clip.device).float()[None]
    canvas, size = unfoldable(model, (image_13HW.shape[2], image_13HW.shape[3]))
    side, step = canvas.window, canvas.step
    larger = functional.interpolate(image_13HW, size, mode="bilinear")
    windows = functional.unfold(larger, side, stride=step)[0].T.reshape(-1, 3, side, side)
    whole = functional.interpolate(image_13HW, (side, side), mode="bilinear")
    pixels_V3SS = model.clip.preprocess([*windows, *whole])
    features = model.clip.encode_image(pixels_V3SS, model.taps)
    logits_VTgg = model.compare_features(
        features, sample["vocabulary"].names, model.test.pooling, model.names_at_a_time
    ).logits_BTgg
    scores_VTSS = functional.interpolate(logits_VTgg, (side, side), mode="bilinear").sigmoid()
    of_whole = functional.interpolate(scores_VTSS[-1:], size, mode="bilinear")
    ones = functional.unfold(torch.ones(1, 1, *size, device=pixels_V3SS.device), side, stride=step)
    count = functional.fold(ones, size, side, stride=step)
    folded = functional.fold(scores_VTSS[:-1].flatten(1).T, size, side, stride=step) / count
    canvas_1THW = (1 - canvas.whole_weight) * folded + canvas.whole_weight * of_whole
    due = (int(sample["height"]), int(sample["width"]))
    sem_seg_THW = functional.interpolate(canvas_1THW, due, mode="bilinear")[0]
    label_map_HW = sem_seg_THW.argmax(dim=0)
    score_HW = sem_seg_THW.gather(0, label_map_HW[None])[0]
    return {"label_map": label_map_HW, "score": score_HW, "sem_seg": sem_seg_THW}


def _padded(
    module: ClassAggregation,
    meet: Callable[[Tensor, Tensor], Tensor],
    x_BNTC: Tensor,
    guidance_BTD: Tensor,
) -> Tensor:
    """See `ClassAggregation.meet`: (B,N,T,C) and (B,T,D) to (B,N,T,C), padded in between."""
    batch, patches, classes, _ = x_BNTC.shape
    missing = module.padded_to - classes
    if missing <= 0:
        return meet(x_BNTC, guidance_BTD)
    tokens = module.padding_token.expand(batch, patches, missing, -1)
    guidance = module.padding_guidance.expand(batch, missing, -1)
    met = meet(torch.cat([x_BNTC, tokens], dim=2), torch.cat([guidance_BTD, guidance], dim=1))
    return met[:, :, :classes]


@contextmanager
def _swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Temporarily replace an attribute of an object."""
    own = vars(owner)
    before = own.get(name)
    had = name in own
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
