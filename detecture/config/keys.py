"""Every config key of this project, with its default and what it means.

Detectron2's own keys are those of its documentation; the ones set here again have a default of
ours.
"""

from detecture.config.describe_then_segment_keys import add_describe_then_segment_keys
from detecture.config.describer_keys import add_describer_keys
from detecture.config.grounded_sam3_keys import add_grounded_sam3_keys
from detecture.config.grouping_keys import add_grouping_keys
from detecture.config.model_keys import add_model_keys
from detecture.config.sa2va_keys import add_sa2va_keys
from detecture.config.sam3_text_keys import add_sam3_text_keys
from detecture.config.texture_sam_keys import add_texture_sam_keys
from detecture.config.training_keys import add_training_keys
from detecture.d2 import CfgNode

CN = CfgNode


def add_detecture_config(cfg: CfgNode) -> None:
    """Add every key of this project, with its default, to a Detectron2 config (in place)."""
    add_model_keys(cfg)
    add_describer_keys(cfg)
    add_grouping_keys(cfg)
    add_grounded_sam3_keys(cfg)
    add_texture_sam_keys(cfg)
    add_describe_then_segment_keys(cfg)
    add_sa2va_keys(cfg)
    add_sam3_text_keys(cfg)
    add_training_keys(cfg)
    # "auto": the best device of this machine; or cpu, mps, or an accelerator by its torch name.
    cfg.MODEL.DEVICE = "auto"

    # The method, by its registered name; the default needs no weights.
    cfg.MODEL.META_ARCHITECTURE = "TextureClusters"

    # ---- images -------------------------------------------------------------------------
    # An image with more pixels than this is refused before it is decoded.
    cfg.INPUT.MAX_PIXELS = 100_000_000
    # Side in pixels of the square that training images are stretched to.
    cfg.INPUT.TRAIN_SIZE = 1008
    # Macro-to-micro crop: now and then, train on a square crop instead of the whole image.
    cfg.INPUT.MICRO_CROP = CN()
    # How often: a share of the samples.
    cfg.INPUT.MICRO_CROP.PROB = 0.35
    # Least and greatest side of the crop, as a share of the stretched image (published: 300 and
    # 600 of 1008 pixels).
    cfg.INPUT.MICRO_CROP.SIDE = (300 / 1008, 600 / 1008)
    # A crop in which fewer regions than this survive is not used; the whole image is.
    cfg.INPUT.MICRO_CROP.MIN_REGIONS = 2

    # ---- TextureClusters (MODEL.META_ARCHITECTURE) -------------------------------------------
    cfg.MODEL.TEXTURE_CLUSTERS = CN()
    # Longer side in pixels that an image is resized to before anything else.
    cfg.MODEL.TEXTURE_CLUSTERS.WORKING_SIZE = 256
    # Wavelengths of the Gabor filters, in pixels of the working size.
    cfg.MODEL.TEXTURE_CLUSTERS.GABOR_WAVELENGTHS = (4.0, 8.0, 16.0)
    # Number of evenly spread directions of the Gabor filters.
    cfg.MODEL.TEXTURE_CLUSTERS.GABOR_ORIENTATIONS = 4
    # Standard deviation of the Gaussian over every feature, in pixels of the working size.
    cfg.MODEL.TEXTURE_CLUSTERS.SMOOTHING = 6.0
    # Weight of each standardised feature: Lab colour,
    cfg.MODEL.TEXTURE_CLUSTERS.COLOR_WEIGHT = 1.5
    # .. local deviation of the colour,
    cfg.MODEL.TEXTURE_CLUSTERS.DEVIATION_WEIGHT = 1.0
    # .. energy of the Gabor filters,
    cfg.MODEL.TEXTURE_CLUSTERS.GABOR_WEIGHT = 0.7
    # .. and position in the image.
    cfg.MODEL.TEXTURE_CLUSTERS.POSITION_WEIGHT = 0.7
    # Least and greatest number of regions to choose from where it is unknown.
    cfg.MODEL.TEXTURE_CLUSTERS.K_RANGE = (2, 6)
    # K-means runs from different starts; the best counts.
    cfg.MODEL.TEXTURE_CLUSTERS.RESTARTS = 4
    # Seed of the starts.
    cfg.MODEL.TEXTURE_CLUSTERS.SEED = 0

    # ---- evaluation ---------------------------------------------------------------------------
    # What a method may know of K, the number of regions. regime: what the data set's regime
    # grants | autonomous: nothing | per_image: the true number of each image | an integer |
    # ground_truth_top_k: as per_image, for a published cell in which one method alone is told.
    cfg.TEST.COUNT = "regime"
    # Tell methods the true descriptions, to measure segmentation apart from describing; every
    # record is marked as oracle.
    cfg.TEST.ORACLE = False
    # Evaluate only the first images of each data set; 0: all.
    cfg.TEST.LIMIT = 0
    # Constant score of the dustbin, for methods that have none of their own.
    cfg.TEST.DUSTBIN_LOGIT = 0.0
    # Resamples of the images behind every 95 % bootstrap interval.
    cfg.TEST.BOOTSTRAP_SAMPLES = 2000
    # Give up after this many images in a row on which the method failed.
    cfg.TEST.MAX_FAILURES_IN_A_ROW = 10
    # The predictor asks for scores at no more than about this many pixels, and upsamples them.
    cfg.TEST.MAX_SCORE_PIXELS = 4_000_000
    # Write the label map of every image beside the records, as a palette PNG.
    cfg.TEST.SAVE_LABEL_MAPS = True
