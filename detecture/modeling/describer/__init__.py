"""A VLM that is shown one region at a time and writes a sentence about it."""

from detecture.modeling.describer.describer import Describer, DescriberBatch
from detecture.modeling.describer.views import region_views

__all__ = ["Describer", "DescriberBatch", "region_views"]
