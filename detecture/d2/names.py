"""The names of this API, once: what each backend must have, and what `detecture.d2` hands on."""

_LIST = """
CfgNode get_cfg configurable Registry META_ARCH_REGISTRY SEM_SEG_HEADS_REGISTRY build_model
DatasetCatalog MetadataCatalog build_detection_train_loader build_detection_test_loader
TrainingSampler InferenceSampler
TrainerBase SimpleTrainer AMPTrainer DefaultTrainer DefaultPredictor hooks launch
default_argument_parser default_setup
DatasetEvaluator DatasetEvaluators SemSegEvaluator inference_on_dataset print_csv_format
verify_results
DetectionCheckpointer PeriodicCheckpointer PathManager
comm EventStorage get_event_storage JSONWriter CommonMetricPrinter TensorboardXWriter
build_optimizer build_lr_scheduler setup_logger collect_env_info
"""

NAMES = tuple(_LIST.split())
"""What the rest of the project takes from the Detectron2 API, whichever is active."""
