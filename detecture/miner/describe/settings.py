"""Settings of the describers and of how they are run (MINER.DESCRIBE)."""

from dataclasses import dataclass

from detecture.errors import MinerError

DESCRIBERS = ("offline", "local_vlm", "openai", "anthropic")


@dataclass(frozen=True, kw_only=True)
class DescribeSettings:
    """See the keys of MINER.DESCRIBE.

    Attributes:
        describer: one of `DESCRIBERS`.
        send_images: images may leave this machine.
        model: name of the model; empty: the describer's own.
        base_url: of the endpoint; empty: the describer's own.
        key_variable: environment variable with the key of the endpoint; empty: the describer's own;
            `none`: the endpoint wants no key.
        overlay: also show the image with its regions in colours.
        max_side: longer side, in pixels, at which images are shown; larger ones are shrunk.
        jpeg_quality: of images that are sent.
        max_tokens: of an answer.
        offline_model: whether the small model that ships writes offline sentences where it can.
        batch_size: images that a local VLM describes at a time.
        attempts: answers asked for about an image, until one can be used.
        retries: of a call that failed, beyond the first.
        timeout: of a call, seconds.
        backoff: wait before the first retry, seconds; each further one is twice as long.
        most_wait: longest wait, seconds; who asks for a longer one is not asked again.
        requests_per_minute: at most; 0: no limit.
        concurrency: calls at a time.
        price_in, price_out: USD for a million tokens read and written; 0: not known.
        max_cost: USD after which nothing more is asked; 0: no limit.
        pixels_per_token: of an image, for estimates of cost.
        seed: of the random part of waits.
    """

    describer: str = "offline"
    send_images: bool = False
    model: str = ""
    base_url: str = ""
    key_variable: str = ""
    overlay: bool = True
    max_side: int = 1024
    jpeg_quality: int = 90
    max_tokens: int = 1024
    offline_model: bool = True
    batch_size: int = 4
    attempts: int = 2
    retries: int = 5
    timeout: float = 120.0
    backoff: float = 1.0
    most_wait: float = 300.0
    requests_per_minute: float = 0.0
    concurrency: int = 4
    price_in: float = 0.0
    price_out: float = 0.0
    max_cost: float = 0.0
    pixels_per_token: float = 750.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("max_side", 64),
            ("jpeg_quality", 1),
            ("max_tokens", 16),
            ("batch_size", 1),
            ("attempts", 1),
            ("retries", 0),
            ("timeout", 0.001),
            ("backoff", 0),
            ("most_wait", 0),
            ("requests_per_minute", 0),
            ("concurrency", 1),
            ("price_in", 0),
            ("price_out", 0),
            ("max_cost", 0),
            ("pixels_per_token", 1),
        ):
            if not getattr(self, name) >= least:
                raise MinerError(
                    f"MINER.DESCRIBE.{name.upper()} is {getattr(self, name)!r}; it must be at "
                    f"least {least}"
                )
        if self.max_cost and not (self.price_in and self.price_out):
            raise MinerError(
                "MINER.DESCRIBE.MAX_COST needs the prices of the model: set "
                "MINER.DESCRIBE.PRICE_IN and MINER.DESCRIBE.PRICE_OUT (USD for a million tokens)"
            )

    def cost(self, tokens: tuple[int, int]) -> float:
        """USD for tokens read and written."""
        return (tokens[0] * self.price_in + tokens[1] * self.price_out) / 1e6
