"""What calls to endpoints have in common: consent, keys, images as text, kinds of failure.

Legend: H, W size of an image.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from detecture.errors import MinerError, brief
from detecture.miner.describe.interface import CallFailed
from detecture.miner.describe.settings import DescribeSettings

logger = logging.getLogger(__name__)

NO_KEY = "none"
"""Value of MINER.DESCRIBE.KEY_VARIABLE for an endpoint that wants no key."""

_SHOWN_CHARACTERS = 300
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_ALLOWED = (401, 402, 403)
_LATER = (408, 409, 425, 429)
_NO_MONEY = ("insufficient_quota", "credit balance is too low")


def endpoint_name(url: str) -> str:
    """An address as errors may show it: without a user's name, password or query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def require_consent(settings: DescribeSettings, url: str) -> None:
    """Check that images may be sent to an address.

    Raises:
        MinerError: the user has not said so, or it is no address.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        endpoint = endpoint_name(url)
    except ValueError:
        sound, endpoint = False, ""
    if not sound:
        raise MinerError(
            f"MINER.DESCRIBE.BASE_URL {brief(url)} is no address; give one such as "
            "https://host/v1 or http://localhost:8000/v1"
        )
    if not settings.send_images:
        raise MinerError(
            f"the describer {settings.describer} sends images to {endpoint}, and nothing has "
            "allowed that; set MINER.DESCRIBE.SEND_IMAGES True to allow it, or use "
            "MINER.DESCRIBE.DESCRIBER offline or local_vlm, which send none"
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        logger.warning("%s is not encrypted: images and key can be read on the way", endpoint)


def key_of_endpoint(settings: DescribeSettings, variable: str, url: str) -> str:
    """The key of an endpoint, from the environment.

    Args:
        settings: may name another variable.
        variable: the usual one.
        url: of the endpoint, for the error.

    Raises:
        MinerError: the variable is not set.
    """
    name = settings.key_variable or variable
    if name == NO_KEY:
        return NO_KEY
    key = os.environ.get(name, "").strip()
    if not key:
        raise MinerError(
            f"the environment variable {name} with the key of {endpoint_name(url)} is not set; "
            f"set it (export {name}=..), name another one as MINER.DESCRIBE.KEY_VARIABLE, or set "
            f"that to {NO_KEY} where the endpoint wants no key"
        )
    return key


def jpeg_text(image: np.ndarray, quality: int) -> str:
    """An image, uint8 (H,W,3), as JPEG in base64. It holds the pixels alone, no metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def failure_of(client: Any, error: Exception, settings: DescribeSettings, url: str) -> CallFailed:
    """What an exception of a client means for the calls after it.

    Args:
        client: the module `openai` or `anthropic`, whose exceptions have the same names.
        error: what was raised.
        settings: name the keys in the text.
        url: of the endpoint.
    """
    endpoint = endpoint_name(url)
    if isinstance(error, client.APITimeoutError):
        text = f"{endpoint} did not answer within {settings.timeout:g} s"
        return CallFailed(text, retry=True, may_be_paid=True)
    if isinstance(error, client.APIConnectionError):
        cause = error.__cause__ or error
        text = f"{endpoint} cannot be reached ({str(cause)[:_SHOWN_CHARACTERS]})"
        return CallFailed(text, retry=True)
    if isinstance(error, client.APIStatusError):
        return _refused(error.status_code, str(error), error.response.headers, settings, endpoint)
    # What is left is an answer that is not of the protocol.
    text = f"{type(error).__name__}: {error}"[:_SHOWN_CHARACTERS]
    return CallFailed(
        f"{endpoint} gave no answer that can be read ({text})", retry=True, may_be_paid=True
    )


def _refused(
    status: int, said: str, headers: Mapping[str, str], settings: DescribeSettings, endpoint: str
) -> CallFailed:
    text = f"{endpoint} answered {status} ({' '.join(said.split())[:_SHOWN_CHARACTERS]})"
    if status in _NOT_ALLOWED or any(words in said for words in _NO_MONEY):
        return CallFailed(f"{text}; check the key and the account it belongs to", stop=True)
    if status == 404:
        return CallFailed(
            f"{text}; check MINER.DESCRIBE.BASE_URL and MINER.DESCRIBE.MODEL "
            f"{brief(settings.model)}",
            stop=True,
        )
    if 300 <= status < 400:
        return CallFailed(
            f"{text}; it sends elsewhere: give the address it names as MINER.DESCRIBE.BASE_URL",
            stop=True,
        )
    if status in _LATER or status >= 500:
        return CallFailed(text, retry=True, wait=retry_after(headers))
    return CallFailed(text)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that an answer's headers ask to wait; None where they do not say.

    Args:
        headers: of the answer, whatever the case of their names.
        now: seconds since 1970; None: of this machine's clock.
    """
    known = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(known[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        then = parsedate_to_datetime(known["retry-after"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return max(0.0, then - (time.time() if now is None else now))
