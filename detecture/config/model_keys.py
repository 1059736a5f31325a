"""Config keys of the Detecture model: the VLM, the segmenter, the Bridge head, the losses."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_model_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch Detecture and its parts, with their defaults (in place)."""
    # ---- Detecture (MODEL.META_ARCHITECTURE): what its parts share --------------------------
    # Number format of frozen backbones: float32 | bfloat16 | float64 (for tests of exactness).
    cfg.MODEL.DTYPE = "float32"
    # Seed of the random weights of a backbone that is built without BASE; they are frozen or
    # trained, but never saved where frozen, so the seed must give them again.
    cfg.MODEL.RANDOM_WEIGHTS_SEED = 0
    # Greatest number of regions of methods that find them one by one, where it is unknown; further
    # ones that the VLM of Detecture writes are left out in any case.
    cfg.MODEL.MAX_REGIONS = 6
    # Folder that keeps what frozen parts compute of each image, between epochs and runs; empty:
    # nothing is kept. Only where the segmenter (or, in stage 1, the VLM) is frozen.
    cfg.MODEL.FEATURE_CACHE = ""

    # ---- the vision-language model ----------------------------------------------------------
    cfg.MODEL.VLM = CN()
    # Registered class.
    cfg.MODEL.VLM.NAME = "Qwen3VL"
    # Hub id or local folder of the weights; empty: random weights, by CONFIG.
    cfg.MODEL.VLM.BASE = ""
    # Structure of a VLM with random weights: a shipped one (qwen3vl_8b, tiny, describer,
    # proportional), or a json file.
    cfg.MODEL.VLM.CONFIG = "tiny"
    # Side in pixels of the square that the VLM sees; it rounds it to whole visual tokens.
    cfg.MODEL.VLM.IMAGE_SIZE = 1008
    # Wording of prompts and answers: default, tiny, describe, or a yaml file. A checkpoint brings
    # its own.
    cfg.MODEL.VLM.PROMPTS = "default"
    # What training prompts say of the number of regions: open (between 1 and 6, as published) |
    # exact | mixed (half of the images each).
    cfg.MODEL.VLM.TRAIN_COUNT = "open"
    # What of it trains: lora | full (all of it) | none.
    cfg.MODEL.VLM.TRAIN = "lora"
    # Low-rank adapters on the query and value projections of every text layer.
    cfg.MODEL.VLM.LORA = CN()
    # Their rank,
    cfg.MODEL.VLM.LORA.RANK = 8
    # .. the numerator of their scale ALPHA / RANK,
    cfg.MODEL.VLM.LORA.ALPHA = 16.0
    # .. and the dropout in front of them.
    cfg.MODEL.VLM.LORA.DROPOUT = 0.0
    # The two rows of the token <|seg|>, of the embedding and of the output: trained | frozen.
    cfg.MODEL.VLM.SEG_ROWS = "trained"
    # What these rows start from: im_end (the rows of that token) | mean (of all rows) | random.
    cfg.MODEL.VLM.WARM_START = "im_end"
    # What a region's tokens see in the pass that its mask comes from: block_diagonal (the prompt
    # and their own line) | causal (earlier lines too).
    cfg.MODEL.VLM.ATTENTION = "block_diagonal"
    # The same for the language-model loss: causal (what generation sees) | block_diagonal
    # (as published).
    cfg.MODEL.VLM.LM_ATTENTION = "causal"
    # How the end of the answer is taught: newline (every line ends in one, and what follows it is
    # learnt) | released (as published: never; the published checkpoint needs it).
    cfg.MODEL.VLM.STOP_SUPERVISION = "newline"
    # An answer is cut off after so many tokens.
    cfg.MODEL.VLM.MAX_NEW_TOKENS = 300
    # Compute activations of the text layers anew in the backward pass, instead of keeping them.
    cfg.MODEL.VLM.GRADIENT_CHECKPOINTING = False
    # Weights of a backbone from BASE in fewer bits: none | 8bit | 4bit (extra "quantized").
    cfg.MODEL.VLM.QUANTIZATION = "none"
    # Where transformers puts the layers: empty (MODEL.DEVICE) | auto (spread over what is there).
    cfg.MODEL.VLM.DEVICE_MAP = ""

    # ---- the segmenter ----------------------------------------------------------------------
    cfg.MODEL.SEGMENTER = CN()
    # Registered class: Sam3Transformers | Sam3Meta.
    cfg.MODEL.SEGMENTER.NAME = "Sam3Transformers"
    # Hub id, local folder or file of the weights; empty: random weights, by CONFIG.
    cfg.MODEL.SEGMENTER.BASE = ""
    # Structure of a segmenter with random weights: a shipped one (sam3, tiny, tiny_fine,
    # proportional), or a json file.
    cfg.MODEL.SEGMENTER.CONFIG = "tiny"
    # Hub id or local folder of the tokenizer of its text encoder, where a method gives it text;
    # empty: that of BASE, or with random weights one that reads bytes and needs no file.
    cfg.MODEL.SEGMENTER.TOKENIZER = ""
    # Train it too (published: it stays frozen).
    cfg.MODEL.SEGMENTER.TRAIN = False
    # Compute its activations behind the image encoder anew in the backward pass.
    cfg.MODEL.SEGMENTER.GRADIENT_CHECKPOINTING = False

    # ---- the Bridge head --------------------------------------------------------------------
    # Registered head.
    cfg.MODEL.SEM_SEG_HEAD.NAME = "BridgeHead"
    cfg.MODEL.BRIDGE = CN()
    # native (into the segmenter's text space, then its own projection) | bottleneck (through half
    # that width straight to the segmenter's width).
    cfg.MODEL.BRIDGE.KIND = "native"
    # Dropout behind the bridge.
    cfg.MODEL.BRIDGE.DROPOUT = 0.4
    # multiplexed (each query is a prompt of its own) | multi_slot (all are one prompt's tokens) |
    # pointing (the segmenter runs once for an image; queries only point at its pixels).
    cfg.MODEL.BRIDGE.DECODING = "multiplexed"

    # ---- refinement of the masks on the pixel embeddings ------------------------------------
    cfg.MODEL.REFINEMENT = CN()
    # Steps of a mixture with one shared covariance that starts from the masks; 0: none.
    cfg.MODEL.REFINEMENT.STEPS = 0
    # Principal components of the embeddings that it runs on.
    cfg.MODEL.REFINEMENT.DIMENSIONS = 16
    # Weight of its result against the masks that it started from, 0..1.
    cfg.MODEL.REFINEMENT.WEIGHT = 0.5
    # Refine in front of the mask loss too.
    cfg.MODEL.REFINEMENT.IN_TRAINING = False

    # ---- losses -----------------------------------------------------------------------------
    cfg.LOSS = CN()
    # What sums are divided by: global (counts over all processes and micro-batches) | published
    # (the means of each micro-batch are averaged).
    cfg.LOSS.NORMALIZER = "global"
    # Weight of the mask loss,
    cfg.LOSS.MASK_WEIGHT = 1.0
    # .. of the Dice term in it,
    cfg.LOSS.DICE_WEIGHT = 3.0
    # .. and of the language-model loss.
    cfg.LOSS.LM_WEIGHT = 0.1
    # Weight of the grouping loss (LOSS.GROUPING) on the pixel embeddings that masks are read from;
    # 0: none.
    cfg.LOSS.GROUPING_WEIGHT = 0.0
    # Weight of each answer token near <|seg|>: shifted_zero | naive | cosine | uniform | seg_only.
    cfg.LOSS.LM_CLIFF = "shifted_zero"
    # Steepness of that cliff, per token.
    cfg.LOSS.LM_ALPHA = 2.0
