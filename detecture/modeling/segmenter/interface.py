"""The interface of a segmenter.

Legend: B images, N prompts, T tokens of a prompt, R boxes of a prompt, D width, C width of the
text encoder, S side of the square image in pixels, h, w size of a feature map.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detecture.errors import DetectureError
from detecture.modeling.segmenter.features import ImageFeatures
from detecture.modeling.segmenter.name_map import check_names
from detecture.modeling.segmenter.proposals import Proposals
from detecture.modeling.stretch import stretch

_T = TypeVar("_T")
_P = ParamSpec("_P")

Tokenizer = Callable[[list[str]], tuple[Tensor, Tensor]]
"""N phrases to int64 token ids (N,T) and a bool mask (N,T) that is True on real tokens."""


def _in_its_format(
    method: Callable[Concatenate["Segmenter", _P], _T],
) -> Callable[Concatenate["Segmenter", _P], _T]:
    """Run a method of a segmenter under autocast, where it has `autocast`."""

    @wraps(method)
    def run(self: "Segmenter", /, *args: _P.args, **options: _P.kwargs) -> _T:
        kind, dtype = self.device.type, self.autocast
        if dtype is None or not torch.amp.is_autocast_available(kind):
            return method(self, *args, **options)
        with torch.autocast(kind, dtype=dtype):
            return method(self, *args, **options)

    return run


class Segmenter(nn.Module, ABC):
    """A promptable segmenter: `encode_image` once, then `pixel_embeddings` for many prompts.

    What is frozen is the caller's to say, through `requires_grad_`. The fusion encoder of the full
    SAM 3 has dropout: a frozen one belongs in evaluation mode, in training too.

    Attributes:
        image_size: side in pixels of the square image that it takes (S).
        text_width: width of its text encoder's states, before its text projection.
        width: width of prompts, features and pixel embeddings (D).
        autocast: format of 16 bits to compute in under autocast, whatever the weights are in;
            None: as the caller has it.
        gradient_checkpointing: compute everything behind the image encoder anew in the backward
            pass, rather than keep it. Acts wherever gradients are recorded, also on a frozen
            segmenter in evaluation mode: gradients to the prompts pass through there.
    """

    PIXEL_MEAN: ClassVar[float] = 0.5
    PIXEL_STD: ClassVar[float] = 0.5
    OFF_PATH: ClassVar[tuple[str, ...]]
    """Beginnings of the names of parameters that the path to pixel embeddings does not use."""

    def __init__(
        self,
        *,
        image_size: int,
        text_width: int,
        width: int,
        gradient_checkpointing: bool,
        tokenizer: Tokenizer | None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.text_width = text_width
        self.width = width
        self.gradient_checkpointing = gradient_checkpointing
        self.tokenizer = tokenizer
        self.autocast: torch.dtype | None = None
        # After load_state_dict(assign=True) on a model that was built on the meta device.
        self.register_load_state_dict_post_hook(_restore_after_load)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._text_projection().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return self._text_projection().weight.dtype

    def preprocess(self, images: Sequence[Tensor]) -> Tensor:
        """Images of any size to what `encode_image` takes.

        Args:
            images: B uint8 RGB tensors (3,H,W), on any device.

        Returns:
            float32 (B,3,S,S) on the segmenter's device: stretched to the square (bilinear,
            antialiased, rounded to whole grey levels as SAM 3's own processors do), normalised.

        Raises:
            ValueError: an image has another type or shape.
        """
        squares_B3SS = stretch(images, self.image_size, self.device)
        pixels_B3SS = squares_B3SS.to(torch.float32) / 255.0
        return (pixels_B3SS - self.PIXEL_MEAN) / self.PIXEL_STD

    @_in_its_format
    def encode_image(self, pixels_B3SS: Tensor) -> ImageFeatures:
        """Run the image encoder on what `preprocess` returned, B images at once."""
        levels, positions = self._encode(self._cast(pixels_B3SS))
        return ImageFeatures(levels, positions)

    @_in_its_format
    def project_text(self, text: Tensor) -> Tensor:
        """SAM 3's own text projection: (..,C) to (..,D)."""
        return cast("Tensor", self._text_projection()(self._cast(text)))

    @_in_its_format
    def pixel_embeddings(
        self,
        features: ImageFeatures,
        image_index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None = None,
    ) -> Tensor:
        """Embeddings of the pixels under each of N prompts.

        The fusion encoder on the coarsest level (prompt position zero), residual cross-attention
        of its memory to the prompt, then the pixel decoder over all levels.

        Args:
            features: of B images, from `encode_image` or a cache.
            image_index_N: int64, which of the B images each prompt belongs to.
            prompt_NTD: the prompts, in D as `project_text` returns them; T = 1 is one query of
                its own (multiplexed), T > 1 several that share one prompt (multi-slot).
            prompt_mask_NT: bool, True on real tokens; None where all are. Each prompt must have
                a real token.

        Returns:
            (N,D,h,w) at the size of the finest level.
        """
        features = self._cast_features(features)
        if len(prompt_NTD) == 0:  # an image without a phrase; attention cannot reshape nothing
            finest = features.levels[0]
            return finest.new_zeros((0, *finest.shape[1:]))
        index_N = image_index_N.to(self.device)
        prompt_NTD = self._cast(prompt_NTD)
        pixel_NDhw: Tensor = self._checkpointed(
            self._decode, features, index_N, prompt_NTD, prompt_mask_NT
        )
        return pixel_NDhw

    @_in_its_format
    def semantic_logits(
        self,
        features: ImageFeatures,
        image_index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None = None,
    ) -> Tensor:
        """SAM 3's own semantic head: `pixel_embeddings` to logits (N,1,h,w) of the prompt."""
        pixel_NDhw = self.pixel_embeddings(features, image_index_N, prompt_NTD, prompt_mask_NT)
        return cast("Tensor", self._semantic_head()(pixel_NDhw))

    @_in_its_format
    def proposals(
        self,
        features: ImageFeatures,
        image_index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None = None,
    ) -> Proposals:
        """Single objects under each of N prompts, by SAM 3's detector.

        Args:
            features, image_index_N, prompt_NTD, prompt_mask_NT: as for `pixel_embeddings`.

        Returns:
            All queries of the detector, whatever their score; none where there is no prompt.

        Raises:
            DetectureError: the segmenter was built without its detector.
        """
        self.require_detector()
        features, prompt_NTD = self._cast_features(features), self._cast(prompt_NTD)
        if len(prompt_NTD) == 0:
            shapes = ((0, 0, *features.levels[0].shape[-2:]), (0, 0), (0, 0, 4))
            return Proposals(*(prompt_NTD.new_zeros(shape) for shape in shapes))
        index_N = image_index_N.to(self.device)
        found: Proposals = self._checkpointed(
            self._propose, features, index_N, prompt_NTD, prompt_mask_NT
        )
        return found

    def exemplar_prompt(
        self,
        features: ImageFeatures,
        image_index_N: Tensor,
        boxes_NR4: Tensor,
        box_mask_NR: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Boxes as prompts, by SAM 3's geometry encoder alone: no text goes with them.

        A box is an example of what to find, all over the image; it does not bound the mask.

        Args:
            features: of B images, from `encode_image` or a cache.
            image_index_N: int64, which of the B images each prompt belongs to.
            boxes_NR4: R boxes of each prompt, all of them positive examples: centre x, centre y,
                width, height as shares of the image's width and height.
            box_mask_NR: bool, True on real boxes, which come first; None where all are.

        Returns:
            The prompts (N,T,D) and their bool mask (N,T), True on real tokens; T = R + 1, one token
            for each box and one more.

        Raises:
            DetectureError: the segmenter was built without its detector.
            ValueError: the boxes have another shape.
        """
        self.require_detector()
        if boxes_NR4.ndim != 3 or boxes_NR4.shape[2] != 4:
            raise ValueError(f"boxes must be (N,R,4), not {tuple(boxes_NR4.shape)}")
        # Coordinates need their precision, and pooling under a box knows no bfloat16.
        with self._without_autocast():
            features, boxes_NR4 = self._cast_features(features), self._cast(boxes_NR4)
            mask_NR = boxes_NR4.new_ones(boxes_NR4.shape[:2], dtype=torch.bool)
            if box_mask_NR is not None:
                mask_NR = box_mask_NR.to(mask_NR)
            if len(boxes_NR4) == 0:
                count = boxes_NR4.shape[1] + 1
                return boxes_NR4.new_zeros((0, count, self.width)), mask_NR.new_zeros((0, count))
            return self._encode_boxes(features, image_index_N.to(self.device), boxes_NR4, mask_NR)

    @_in_its_format
    def text_features(self, phrases: list[str]) -> tuple[Tensor, Tensor]:
        """Phrases as prompts, by SAM 3's own text encoder.

        Returns:
            The prompts (N,T,D) and their bool mask (N,T), True on real tokens.

        Raises:
            DetectureError: the segmenter was built without its text encoder or a tokenizer.
        """
        ids_NT, mask_NT = self.require_text()(phrases)
        ids_NT, mask_NT = ids_NT.to(self.device), mask_NT.to(self.device, torch.bool)
        return self.project_text(self._encode_text(ids_NT, mask_NT)), mask_NT

    def require_text(self) -> Tokenizer:
        """The tokenizer, which together with the text encoder makes prompts of phrases.

        Raises:
            DetectureError: the segmenter was built without its text encoder or a tokenizer.
        """
        if not self.has_text:
            raise DetectureError(
                f"this {type(self).__name__} was built without its text encoder; build it with "
                "with_text=True"
            )
        if self.tokenizer is None:
            raise DetectureError(
                f"this {type(self).__name__} has no tokenizer; let MODEL.SEGMENTER.TOKENIZER (or "
                ".BASE) name a hub id or folder that holds one, or pass tokenizer="
            )
        return self.tokenizer

    def require_detector(self) -> None:
        """Refuse to go on without the detector.

        Raises:
            DetectureError: the segmenter was built without it.
        """
        if not self.has_detector:
            raise DetectureError(
                f"this {type(self).__name__} was built without its detector; build it with "
                "with_detector=True"
            )

    def path_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that encode_image, project_text and pixel_embeddings use."""
        for name, parameter in self.named_parameters():
            if not name.startswith(self.OFF_PATH):
                yield name, parameter

    def load_weights(self, state: Mapping[str, Tensor], source: str) -> None:
        """Load a whole state dict under this backend's own names.

        Args:
            state: the weights, of any shapes; what this segmenter was built without is passed over.
            source: what errors call them, such as the file's path.

        Raises:
            CheckpointError: names are missing or left over, or a shape differs.
        """
        own = self.state_dict()
        fitting = check_names(own, state, source)
        self.load_state_dict(fitting, strict=False)

    @property
    @abstractmethod
    def has_text(self) -> bool:
        """Whether the text encoder is there."""

    @property
    @abstractmethod
    def has_detector(self) -> bool:
        """Whether the detector is there."""

    @abstractmethod
    def _encode(self, pixels_B3SS: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Levels (B,D,h,w), finest first, and positions (1,D,h,w) of the coarsest."""

    @abstractmethod
    def _decode(
        self,
        features: ImageFeatures,
        index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Tensor:
        """`pixel_embeddings` (N,D,h,w), with everything in the right type and place."""

    @abstractmethod
    def _propose(
        self,
        features: ImageFeatures,
        index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Proposals:
        """`proposals`, with everything in the right type and place."""

    @abstractmethod
    def _encode_boxes(
        self, features: ImageFeatures, index_N: Tensor, boxes_NR4: Tensor, mask_NR: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`exemplar_prompt`, (N,T,D) and (N,T), with everything in the right type and place."""

    @abstractmethod
    def _encode_text(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Token ids to states (N,T,C)."""

    @abstractmethod
    def _text_projection(self) -> nn.Linear:
        """The text projection."""

    @abstractmethod
    def _semantic_head(self) -> nn.Conv2d:
        """The semantic head."""

    @abstractmethod
    def _restore_buffers(self, device: torch.device) -> None:
        """Compute all buffers that no checkpoint holds, in full precision, on `device`."""

    def _restore(self) -> None:
        if self.device.type != "meta":
            self._restore_buffers(self.device)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Segmenter":
        # Behind every to(), half(), to_empty() of this module or one around it. A lower precision
        # would round the rotary positions (angles off by up to 0.04), and to_empty leaves garbage.
        super()._apply(fn, recurse)
        self._restore()
        return self

    def _checkpointed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def _cast_features(self, features: ImageFeatures) -> ImageFeatures:
        levels = tuple(self._cast(level) for level in features.levels)
        return ImageFeatures(levels, self._cast(features.positions))

    def _without_autocast(self) -> AbstractContextManager[Any]:
        kind = self.device.type
        if torch.amp.is_autocast_available(kind):
            return torch.autocast(kind, enabled=False)
        return nullcontext()

    def _cast(self, tensor: Tensor) -> Tensor:
        """A tensor of any shape where the parameters are, and in their type."""
        # Under autocast every operation picks its own type: a copy here would be for nothing.
        device = self.device
        if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
            return tensor.to(device)
        return tensor.to(device, self.dtype)


def _restore_after_load(module: nn.Module, _: Any) -> None:
    # A function of the module, not a lambda, so that a segmenter can be pickled.
    cast("Segmenter", module)._restore()
