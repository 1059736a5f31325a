"""Detecture: the VLM, the segmenter, the Bridge head, the refinement of masks."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, nested, section
from detecture.errors import ConfigError


@section("MODEL.VLM.LORA", "Low-rank adapters on the query and value projections of text layers.")
@dataclass(frozen=True, kw_only=True)
class LoraSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    rank: int = key(8, "Their rank.", least=1)
    alpha: float = key(
        16.0, "The numerator of their scale ALPHA / RANK (published: 16 to a rank of 8).", least=0
    )
    dropout: float = key(0.0, "The dropout in front of them.", least=0, greatest=1)


@section("MODEL.VLM", "The vision-language model.")
@dataclass(frozen=True, kw_only=True)
class VlmSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    name: str = key("Qwen3VL", "Registered class.")
    base: str = key("", "Hub id or local folder of the weights; empty: random weights, by CONFIG.")
    config: str = key(
        "tiny",
        "Structure of a VLM with random weights: a shipped one (qwen3vl_8b, tiny, describer, "
        "proportional), or a json file.",
    )
    image_size: int = key(
        1008,
        "Side in pixels of the square that the VLM sees; it rounds it to whole visual tokens.",
        least=16,
        greatest=8192,
    )
    prompts: str = key(
        "default",
        "Wording of prompts and answers: default, tiny, describe, or a yaml file. A checkpoint "
        "brings its own.",
    )
    train_count: str = key(
        "open",
        "What training prompts say of the number of regions: `open` (between 1 and 6, as "
        "published), `exact`, or `mixed` (half of the images each).",
        choices=("open", "exact", "mixed"),
    )
    train: str = key(
        "lora", "What of it trains; `full` is all of it.", choices=("lora", "full", "none")
    )
    seg_rows: str = key(
        "trained",
        "The two rows of the token `<|seg|>`, of the embedding and of the output.",
        choices=("trained", "frozen"),
    )
    warm_start: str = key(
        "im_end",
        "What these rows start from: `im_end` (the rows of that token), `mean` (of all rows) or "
        "`random`.",
        choices=("im_end", "mean", "random"),
    )
    attention: str = key(
        "block_diagonal",
        "What a region's tokens see in the pass that its mask comes from: `block_diagonal` (the "
        "prompt and their own line) or `causal` (earlier lines too).",
        choices=("block_diagonal", "causal"),
    )
    lm_attention: str = key(
        "causal",
        "The same for the language-model loss: `causal` is what generation sees, `block_diagonal` "
        "as published.",
        choices=("block_diagonal", "causal"),
    )
    stop_supervision: str = key(
        "newline",
        "How the end of the answer is taught: `newline` (every line ends in one, and what follows "
        "it is learnt) or `released` (as published: never; the published checkpoint needs it).",
        choices=("released", "newline"),
    )
    newline_after_end: bool = key(
        False,
        "Detecture learns to write a newline behind the token that ends an answer, which the chat "
        "format has there (as published); nothing reads it.",
    )
    max_new_tokens: int = key(300, "An answer is cut off after so many tokens.", least=1)
    gradient_checkpointing: bool = key(
        False,
        "Compute activations of the text layers anew in the backward pass, instead of keeping "
        "them.",
    )
    quantization: str = key(
        "none",
        'Weights of a backbone from BASE in fewer bits (extra "quantized").',
        choices=("none", "4bit", "8bit"),
    )
    device_map: str = key(
        "",
        "Where transformers puts the layers: empty (MODEL.DEVICE) or `auto` (spread over what is "
        "there).",
    )
    lora: LoraSettings = nested(LoraSettings)

    def check(self) -> None:
        """Refuse what is for weights that are loaded, where none are."""
        if not self.base and (self.quantization != "none" or self.device_map):
            raise ConfigError(
                "MODEL.VLM.QUANTIZATION and MODEL.VLM.DEVICE_MAP are for weights that are loaded: "
                "give MODEL.VLM.BASE too, or leave them out"
            )


@section("MODEL.SEGMENTER", "The segmenter, SAM 3.")
@dataclass(frozen=True, kw_only=True)
class SegmenterSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    name: str = key("Sam3Transformers", "Registered class: Sam3Transformers or Sam3Meta.")
    base: str = key(
        "", "Hub id, local folder or file of the weights; empty: random weights, by CONFIG."
    )
    config: str = key(
        "tiny",
        "Structure of a segmenter with random weights: a shipped one (sam3, tiny, tiny_fine, "
        "proportional), or a json file.",
    )
    tokenizer: str = key(
        "",
        "Hub id or local folder of the tokenizer of its text encoder, where a method gives it "
        "text; empty: that of BASE, or with random weights one that reads bytes and needs no file.",
    )
    train: bool = key(False, "Train it too (published: it stays frozen).")
    training_mode: bool = key(
        False,
        "Leave a frozen one of Detecture in training mode while the rest trains, as published: its "
        "dropout acts.",
    )
    under_autocast: bool = key(
        False,
        "Leave the weights of Detecture's in the format of their file, as published, and compute "
        "under autocast in MODEL.DTYPE where that has 16 bits; otherwise frozen weights are "
        "rounded to it.",
    )
    gradient_checkpointing: bool = key(
        False, "Compute its activations behind the image encoder anew in the backward pass."
    )


@section("MODEL.SEM_SEG_HEAD", "The head.")
@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    name: str = key("BridgeHead", "Registered head.")


@section("MODEL.BRIDGE", "The Bridge head, between VLM and segmenter.")
@dataclass(frozen=True, kw_only=True)
class BridgeSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    kind: str = key(
        "native",
        "`native` (into the segmenter's text space, then its own projection) or `bottleneck` "
        "(through an eighth of the VLM's width straight to the segmenter's width).",
        choices=("native", "bottleneck"),
    )
    dropout: float = key(0.4, "Dropout behind the bridge.", least=0, greatest=1)
    decoding: str = key(
        "multiplexed",
        "`multiplexed` (each query is a prompt of its own), `multi_slot` (all are one prompt's "
        "tokens) or `pointing` (the segmenter runs once for an image; queries only point at its "
        "pixels).",
        choices=("multiplexed", "multi_slot", "pointing"),
    )


@section("MODEL.REFINEMENT", "Refinement of the masks on the pixel embeddings.")
@dataclass(frozen=True, kw_only=True)
class RefinementSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    steps: int = key(
        0,
        "Steps of a mixture with one shared covariance that starts from the masks; 0: none.",
        least=0,
    )
    dimensions: int = key(16, "Principal components of the embeddings that it runs on.", least=1)
    weight: float = key(
        0.5, "Weight of its result against the masks that it started from.", least=0, greatest=1
    )
    in_training: bool = key(False, "Refine in front of the mask loss too.")
