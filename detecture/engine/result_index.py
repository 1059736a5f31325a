"""A table of a run: a line for each image, to find those that need a look."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from detecture.checkpoint.atomic import utf8
from detecture.checkpoint.ownership import require_own, write_own
from detecture.engine.result import TextureResult
from detecture.engine.result_files import ENDINGS, REMEDY
from detecture.engine.semantic_result import SemanticResult

INDEX = "index.csv"
"""Name of the table, in the folder of the results."""

COLUMNS = ("image", "status", "regions", "count_probability", "least_confidence", *ENDINGS)
"""Of the table: image as it was given; regions, or classes that were found; probability of that
number; least confidence of a region; names of the files. What is not known is empty."""


class ResultIndex:
    """The table of one run, which replaces that of the run before."""

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        """Check that it can be written, before there is anything to write.

        Args:
            folder: of the results.
            overwrite: also replace a table that somebody else wrote.

        Raises:
            OutputError: there is one of somebody else.
        """
        self.path = folder / INDEX
        self.overwrite = overwrite
        self._rows: list[tuple[str, ...]] = []
        require_own([self.path], overwrite, REMEDY)

    def add(
        self, image: Path, result: TextureResult | SemanticResult, files: Mapping[str, Path]
    ) -> None:
        """Add the line of an image: its result, and what `save` wrote."""
        probability, least = "", ""
        if isinstance(result, TextureResult):
            regions = result.num_regions
            known = result.count_probability
            probability = "" if known is None else f"{known:.4f}"
            least = f"{min(result.confidence):.4f}" if result.confidence else ""
        else:
            regions = sum(label != result.background for label in result.found())
        names = [files[kind].name for kind in ENDINGS]
        self._rows.append((str(image), result.status, str(regions), probability, least, *names))

    def add_failed(self, image: Path) -> None:
        """Add the line of an image without a result."""
        self._rows.append((str(image), "failed", *[""] * (len(COLUMNS) - 2)))

    def write(self) -> None:
        """Write the table.

        Raises:
            OutputError: somebody else's is there by now, or it cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._rows)
        write_own(self.path, utf8(text.getvalue()), overwrite=self.overwrite, remedy=REMEDY)
