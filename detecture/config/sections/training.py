"""The training loop: optimiser, schedule, curriculum, checkpoints."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, nested, section


@section("SOLVER.AMP", "Mixed precision.")
@dataclass(frozen=True, kw_only=True)
class AmpSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    precision: str = key(
        "bfloat16",
        "Number format under SOLVER.AMP.ENABLED; `float16` with a loss scaler.",
        choices=("bfloat16", "float16"),
    )


@section("SOLVER.LR_FACTOR", "Factors on BASE_LR of the parts of a model that names its parts.")
@dataclass(frozen=True, kw_only=True)
class LrFactorSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    bridge: float = key(1.0, "Of the bridge.", least=0)
    mask_head: float = key(1.0, "Of the mask head.", least=0)
    dustbin: float = key(1.0, "Of the dustbin query.", least=0)
    vlm: float = key(0.01, "Of the vision-language model, or of its adapters.", least=0)
    seg_rows: float = key(1.0, "Of the two rows of the token `<|seg|>`.", least=0)
    segmenter: float = key(1.0, "Of the segmenter.", least=0)
    texture: float = key(1.0, "Of the describer's look at textures.", least=0)
    head: float = key(1.0, "Of the head of open-vocabulary segmentation, and its parts.", least=0)
    clip: float = key(0.01, "Of CLIP's own weights.", least=0)
    adapter: float = key(1.0, "Of what turns CLIP.", least=0)
    texture_readout: float = key(1.0, "Of the layer by which the VLM reads that look.", least=0)


@section("SOLVER.CURRICULUM", "Two stages of training: first the head, then all parts.")
@dataclass(frozen=True, kw_only=True)
class CurriculumSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    stage2_iter: int = key(
        0, "Iteration at which stage 2 begins and all parts train; 0: from the start.", least=0
    )
    stage2_epoch: float = key(
        0.0, "The same as the number of passes that stage 1 takes; 0: STAGE2_ITER counts.", least=0
    )
    bridge_factor: float = key(
        0.1,
        "Factor on the bridge's learning rate from a stage switch on (CurriculumCosine).",
        least=0,
    )


@section("SOLVER.RESTART", "Micro-warm-up restart of the learning rates (CurriculumCosine).")
@dataclass(frozen=True, kw_only=True)
class RestartSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    iter: int = key(0, "The iteration that it begins at; 0: there is none.", least=0)
    epoch: float = key(0.0, "The same as a number of passes; 0: ITER counts.", least=0)
    factor: float = key(0.15, "Factor on every part's original peak from there on.", least=0)
    least_peak: float = key(
        0.0,
        "A part that trains has at least this peak from there on (the published code: 1e-6, its "
        "least learning rate, to which LoRA's peak so rises).",
        least=0,
    )
    warmup_iters: int = key(0, "Its warm-up in iterations.", least=0)
    warmup_epochs: float = key(
        0.0, "Its warm-up in passes; 0: WARMUP_ITERS counts (published: 2).", least=0
    )


@section("SOLVER", "The training loop.")
@dataclass(frozen=True, kw_only=True)
class SolverSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    accumulation: int = key(
        1,
        "Micro-batches that one iteration's IMS_PER_BATCH images are split into on every process.",
        least=1,
    )
    log_period: int = key(
        20, "Losses go to the log and to metrics.json after every so many iterations.", least=1
    )
    optimizer: str = key("SGD", "The optimiser.", choices=("AdamW", "SGD"))
    max_epochs: float = key(
        0.0,
        "Length in passes over the training set; it replaces MAX_ITER. 0: MAX_ITER counts.",
        least=0,
    )
    warmup_epochs: float = key(
        0.0,
        "Warm-up in passes over the training set; it replaces WARMUP_ITERS. 0: WARMUP_ITERS "
        "counts.",
        least=0,
    )
    cosine_iters: int = key(
        0,
        "Iteration at which the cosine from the start ends; from there to a restart, or to the end "
        "of the run, rates stay at MIN_LR (CurriculumCosine). 0: that of the run.",
        least=0,
    )
    cosine_epochs: float = key(
        0.0, "The same as a number of passes; 0: COSINE_ITERS counts (published: 20).", least=0
    )
    first_step_at_peak: bool = key(
        False,
        "Take the first step at the full rate, in front of the warm-up (CurriculumCosine): the "
        "published code sets rates behind each step.",
    )
    min_lr: float = key(
        1e-6,
        "Learning rate in the last iteration, under LR_SCHEDULER_NAME CurriculumCosine. A part "
        "whose peak is not above it stays at its peak.",
        least=0,
    )
    keep_checkpoints: int = key(2, "So many of the newest periodic checkpoints are kept.", least=2)
    amp: AmpSettings = nested(AmpSettings)
    lr_factor: LrFactorSettings = nested(LrFactorSettings)
    curriculum: CurriculumSettings = nested(CurriculumSettings)
    restart: RestartSettings = nested(RestartSettings)
