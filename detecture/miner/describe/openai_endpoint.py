"""Any endpoint that speaks OpenAI's chat protocol: OpenAI itself, vLLM, Ollama, llama.cpp and more.

Legend: H, W size of an image.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from detecture.errors import MinerError
from detecture.miner.describe.answers import answer_schema
from detecture.miner.describe.calls import (
    failure_of,
    jpeg_text,
    key_of_endpoint,
    require_consent,
)
from detecture.miner.describe.costs import counted, tokens_of
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

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"

_FORMS = tuple((schema, limit) for schema in (True, False) for limit in (0, 1))
_LIMITS = ("max_tokens", "max_completion_tokens")


class OpenAiDescriber:
    """Asks an endpoint for JSON by schema; where it does not know that, in words alone.

    Endpoints differ in what they take: schemas, and the name of the limit of an answer. The first
    form that one answers to is kept.
    """

    name = "openai"
    offline = False
    remote = True

    def __init__(self, settings: DescribeSettings, look: RegionLook | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            settings: MINER.DESCRIBE.
            look: of the overlay; None: only the image is sent.

        Raises:
            MinerError: images may not be sent, the package `openai` or the key is missing, or no
                model is named.
        """
        self.url = settings.base_url or BASE_URL
        require_consent(settings, self.url)
        if not settings.model:
            raise MinerError(
                "MINER.DESCRIBE.MODEL is empty; name the model that the endpoint is to use"
            )
        try:
            import openai
        except ImportError as error:
            raise MinerError(
                'MINER.DESCRIBE.DESCRIBER openai needs: pip install -e ".[miner-api]"'
            ) from error
        self._module: Any = openai
        self._client: Any = openai.OpenAI(
            api_key=key_of_endpoint(settings, KEY_VARIABLE, self.url),
            base_url=self.url,
            timeout=settings.timeout,
            max_retries=0,
            # A redirect would send the images where nobody has allowed it.
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        self.settings = settings
        self.model = settings.model
        self.look = look
        self._lock = threading.Lock()
        self._form = 0
        self._form_is_known = False

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
        text = instruction(hints, colors, words, reason=reason)
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{self._jpeg(one)}"}}
            for one in shown
        ]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [*parts, {"type": "text", "text": text}]},
        ]
        answer = self._ask(messages, len(class_names))
        estimate = tokens_of(SYSTEM + text, [one.shape for one in shown], self.settings)
        return self._said(answer, len(class_names), estimate)

    def _jpeg(self, image: np.ndarray) -> str:
        """Of an image (H,W,3)."""
        return jpeg_text(image, self.settings.jpeg_quality)

    def _ask(self, messages: list[dict[str, Any]], count: int) -> Any:
        number = self._form
        schema, limit = _FORMS[number]
        options: dict[str, Any] = {_LIMITS[limit]: self.settings.max_tokens}
        if schema:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": "region_texts",
                    "strict": True,
                    "schema": answer_schema(count),
                },
            }
        try:
            answer = self._client.chat.completions.create(
                model=self.model, messages=messages, **options
            )
        except (self._module.OpenAIError, ValueError) as error:
            failure = failure_of(self._module, error, self.settings, self.url)
            if getattr(error, "status_code", 0) in (400, 422):
                failure = self._next_form(number, failure)
            raise failure from error
        with self._lock:
            self._form_is_known = True
        return answer

    def _next_form(self, number: int, failure: CallFailed) -> CallFailed:
        """Where a request was called wrong: ask in another form, unless this one has worked."""
        with self._lock:
            if self._form_is_known:
                return failure
            if self._form != number:  # another thread has gone on meanwhile
                return CallFailed(str(failure), at_once=True)
            self._form = (number + 1) % len(_FORMS)
            return CallFailed(str(failure), at_once=True) if self._form else failure

    def _said(self, answer: Any, count: int, estimate: int) -> Said:
        choices = getattr(answer, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(first, "message", None)
        text = getattr(message, "content", None)
        if message is None or isinstance(message, str) or not isinstance(text, str | None):
            raise CallFailed(
                f"the answer of {self.model} is not of OpenAI's protocol: it has no choices with a "
                "message of text",
                retry=True,
                may_be_paid=True,
            )
        usage = getattr(answer, "usage", None)
        # Not every endpoint counts; what is not counted is estimated.
        tokens = (
            counted(getattr(usage, "prompt_tokens", None), estimate),
            counted(
                getattr(usage, "completion_tokens", None), tokens_of(text or "", [], self.settings)
            ),
        )
        if refusal := getattr(message, "refusal", None):
            return Said(problem=f"the model refuses: {str(refusal)[:200]}", tokens=tokens)
        if getattr(first, "finish_reason", None) == "length":
            return Said(
                problem=f"the answer is cut off after {self.settings.max_tokens} tokens "
                "(MINER.DESCRIBE.MAX_TOKENS)",
                tokens=tokens,
            )
        if not text or not text.strip():
            return Said(problem="the answer is empty", tokens=tokens)
        return said_of(text, count, tokens)
