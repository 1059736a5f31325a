"""Anthropic's Messages API, as the published pipeline used it.

Legend: H, W size of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detecture.errors import MinerError
from detecture.miner.describe.calls import (
    failure_of,
    jpeg_text,
    key_of_endpoint,
    require_consent,
)
from detecture.miner.describe.costs import counted
from detecture.miner.describe.interface import CallFailed, Said, said_of
from detecture.miner.describe.prompt import (
    IMAGE_ALONE,
    SYSTEM,
    TWO_IMAGES,
    RegionLook,
    instruction,
    region_hints,
    shrink,
)
from detecture.miner.describe.settings import DescribeSettings

BASE_URL = "https://api.anthropic.com"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
MODEL = "claude-haiku-4-5-20251001"
"""The model that wrote the published descriptions."""

_CAPTIONS = ("The image as it is:", "The same image, its regions in colours:")


class AnthropicDescriber:
    """Sends image, overlay and instruction, each under a caption, and reads JSON."""

    name = "anthropic"
    offline = False
    remote = True

    def __init__(self, settings: DescribeSettings, look: RegionLook | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            settings: MINER.DESCRIBE.
            look: of the overlay; None: only the image is sent.

        Raises:
            MinerError: images may not be sent, or the package `anthropic` or the key is missing.
        """
        self.url = settings.base_url or BASE_URL
        require_consent(settings, self.url)
        try:
            import anthropic
        except ImportError as error:
            raise MinerError(
                'MINER.DESCRIBE.DESCRIBER anthropic needs: pip install -e ".[miner-api]"'
            ) from error
        self._module: Any = anthropic
        self._client: Any = anthropic.Anthropic(
            api_key=key_of_endpoint(settings, KEY_VARIABLE, self.url),
            base_url=self.url,
            timeout=settings.timeout,
            max_retries=0,
            # A redirect would send the images where nobody has allowed it.
            http_client=anthropic.DefaultHttpxClient(follow_redirects=False),
        )
        self.settings = settings
        self.model = settings.model or MODEL
        self.look = look

    def describe(
        self,
        image: np.ndarray,
        index_mask: np.ndarray,
        class_names: Sequence[str],
        *,
        reason: str = "",
    ) -> Said:
        """See `MinerDescriber.describe`; `image` is (H,W,3), `index_mask` (H,W)."""
        hints = region_hints(index_mask, class_names)
        small, small_mask = shrink(image, index_mask, self.settings.max_side)
        shown = [small] if self.look is None else [small, self.look.render(small, small_mask)]
        colors = self.look.colors if self.look else ()
        words = TWO_IMAGES if self.look else IMAGE_ALONE
        content: list[dict[str, Any]] = []
        for caption, one in zip(_CAPTIONS, shown, strict=False):
            data = jpeg_text(one, self.settings.jpeg_quality)
            source = {"type": "base64", "media_type": "image/jpeg", "data": data}
            content += [{"type": "text", "text": caption}, {"type": "image", "source": source}]
        text = instruction(hints, colors, words, reason=reason)
        content.append({"type": "text", "text": text})
        try:
            answer = self._client.messages.create(
                model=self.model,
                max_tokens=self.settings.max_tokens,
                system=SYSTEM,
                messages=[{"role": "user", "content": content}],
            )
        except (self._module.AnthropicError, ValueError) as error:
            raise failure_of(self._module, error, self.settings, self.url) from error
        return self._said(answer, len(class_names))

    def _said(self, answer: Any, count: int) -> Said:
        blocks, usage = getattr(answer, "content", None), getattr(answer, "usage", None)
        if not isinstance(blocks, list) or usage is None:
            raise CallFailed(
                f"the answer of {self.model} is not of Anthropic's protocol: it has no content",
                retry=True,
                may_be_paid=True,
            )
        read = sum(
            counted(getattr(usage, name, None), 0)
            for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        )
        tokens = read, counted(getattr(usage, "output_tokens", None), 0)
        reason = getattr(answer, "stop_reason", None)
        if reason == "max_tokens":
            return Said(
                problem=f"the answer is cut off after {self.settings.max_tokens} tokens "
                "(MINER.DESCRIBE.MAX_TOKENS)",
                tokens=tokens,
            )
        if reason == "refusal":
            return Said(problem="the model refuses", tokens=tokens)
        texts = [block.text for block in blocks if getattr(block, "type", "") == "text"]
        text = "".join(one for one in texts if isinstance(one, str))
        if not text.strip():
            return Said(problem="the answer is empty", tokens=tokens)
        return said_of(text, count, tokens)
