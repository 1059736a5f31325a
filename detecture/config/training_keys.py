"""Config keys of the training loop: optimiser, schedule, curriculum, checkpoints."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_training_keys(cfg: CfgNode) -> None:
    """Add the keys of the training loop, with their defaults (in place)."""
    # ---- batches ---------------------------------------------------------------------------------
    # Micro-batches that one iteration's IMS_PER_BATCH images are split into on every process.
    cfg.SOLVER.ACCUMULATION = 1
    # Number format under SOLVER.AMP.ENABLED: bfloat16 | float16 (with a loss scaler).
    cfg.SOLVER.AMP.PRECISION = "bfloat16"
    # Losses go to the log and to metrics.json after every so many iterations.
    cfg.SOLVER.LOG_PERIOD = 20

    # ---- optimiser -------------------------------------------------------------------------------
    # SGD | AdamW.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Factors on BASE_LR of the parts of a model that names its parts:
    cfg.SOLVER.LR_FACTOR = CN()
    # .. the bridge,
    cfg.SOLVER.LR_FACTOR.BRIDGE = 1.0
    # .. the mask head,
    cfg.SOLVER.LR_FACTOR.MASK_HEAD = 1.0
    # .. the dustbin query,
    cfg.SOLVER.LR_FACTOR.DUSTBIN = 1.0
    # .. the vision-language model or its adapters,
    cfg.SOLVER.LR_FACTOR.VLM = 0.01
    # .. the two rows of the token <|seg|>,
    cfg.SOLVER.LR_FACTOR.SEG_ROWS = 1.0
    # .. the segmenter,
    cfg.SOLVER.LR_FACTOR.SEGMENTER = 1.0
    # .. the describer's look at textures,
    cfg.SOLVER.LR_FACTOR.TEXTURE = 1.0
    # .. and the layer by which the VLM reads it.
    cfg.SOLVER.LR_FACTOR.TEXTURE_READOUT = 1.0

    # ---- length and schedule ---------------------------------------------------------------------
    # Length in passes over the training set; it replaces MAX_ITER. 0: MAX_ITER counts.
    cfg.SOLVER.MAX_EPOCHS = 0.0
    # Warm-up in passes over the training set; it replaces WARMUP_ITERS. 0: WARMUP_ITERS counts.
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    # Learning rate in the last iteration, under LR_SCHEDULER_NAME CurriculumCosine. A part whose
    # peak is not above it stays at its peak.
    cfg.SOLVER.MIN_LR = 1e-6
    cfg.SOLVER.CURRICULUM = CN()
    # Iteration at which stage 2 begins and all parts train. 0: from the start.
    cfg.SOLVER.CURRICULUM.STAGE2_ITER = 0
    # The same as the number of passes that stage 1 takes. 0: STAGE2_ITER counts.
    cfg.SOLVER.CURRICULUM.STAGE2_EPOCH = 0.0
    # Factor on the bridge's learning rate from a stage switch on (CurriculumCosine).
    cfg.SOLVER.CURRICULUM.BRIDGE_FACTOR = 0.1
    # Micro-warm-up restart of the learning rates (CurriculumCosine):
    cfg.SOLVER.RESTART = CN()
    # .. the iteration that it begins at (0: there is none),
    cfg.SOLVER.RESTART.ITER = 0
    # .. or the number of passes before it (0: ITER counts),
    cfg.SOLVER.RESTART.EPOCH = 0.0
    # .. the factor on every part's original peak from there on,
    cfg.SOLVER.RESTART.FACTOR = 0.15
    # .. its warm-up in iterations,
    cfg.SOLVER.RESTART.WARMUP_ITERS = 0
    # .. or in passes (0: WARMUP_ITERS counts; published: 2).
    cfg.SOLVER.RESTART.WARMUP_EPOCHS = 0.0

    # ---- checkpoints and validation --------------------------------------------------------------
    # So many of the newest periodic checkpoints are kept, at least 2.
    cfg.SOLVER.KEEP_CHECKPOINTS = 2
    # Scalar whose best value is kept as model_best, such as texture/mIoU; less is better where
    # its name holds "loss" or "MAE". Empty: none.
    cfg.TEST.BEST_METRIC = ""
    # Training ends after so many evaluations in a row that did not better BEST_METRIC. 0: never.
    cfg.TEST.EARLY_STOPPING_PATIENCE = 0
    # Images of so many samples of the first test set, truth beside prediction, go to
    # tensorboard at every evaluation.
    cfg.TEST.VALIDATION_IMAGES = 0
