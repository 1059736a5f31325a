"""All measures of words on one finished evaluation."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from detecture.evaluation.summary import summarize
from detecture.evaluation.words.agreement import AgreementCounter
from detecture.evaluation.words.attributes import score_attributes
from detecture.evaluation.words.form import build_lexicon, score_form
from detecture.evaluation.words.image import WordsImage, load_images, open_run
from detecture.evaluation.words.matching import matched_pair, reordered, score_matching

Progress = Callable[[Iterable[WordsImage], int], Iterable[WordsImage]]

_OF_REGIONS = ("pIoU", "mIoU", "ARI", "K_accuracy", "K_MAE")


def evaluate_words(
    folder: Path,
    dataset: str | None = None,
    *,
    max_pixels: int,
    bands: Sequence[int] = (),
    bootstrap_samples: int = 2000,
    true_sentences: bool = False,
    partial: bool = False,
    open_vocabulary: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the sentences of a finished evaluation; docs/words.md defines every number.

    Args:
        folder: `OUTPUT_DIR/inference/<data set>`, with `records.jsonl`, `summary.json` and, for the
            agreement with the image, `label_maps`.
        dataset: registered name, where it is not the one that the evaluation wrote down.
        max_pixels: images with more are refused.
        bands: of images, see `detecture.data.image_io.read_image`.
        bootstrap_samples: resamples of the images behind each interval.
        true_sentences: score the sentences of the matched true regions in place of the generated
            ones: what a perfect describer would reach with these masks.
        partial: take an evaluation that is not finished.
        open_vocabulary: no word counts as unknown (for models that know all of English).
        progress: wraps the iteration over the images; gets them and their number.

    Returns:
        `dataset`, `method`, `sentences` (`generated` or `true`), `n_images`, `n_with_sentences`,
        `regions` (the scores of the masks and of K, with `ci95`), `attributes`, `matching`,
        `matching_checked` (with the published sentences at the masks that they were read to be
        of, where that was read), `agreement` and `form`; `left_out`: why a part is None.

    Raises:
        DatasetError, EvaluationError, ImageError: see `open_run` and `load_images`.
    """
    run = open_run(folder, dataset, partial=partial)
    found: Iterable[WordsImage] = load_images(run, max_pixels, bands, true_sentences=true_sentences)
    if progress is not None:
        found = progress(found, len(run.records))
    agreement = AgreementCounter()
    images = []
    for image in found:
        agreement.add(image)
        # Pixels of a thousand images would fill the memory.
        image.image, image.label_map = image.image[:0], None
        images.append(image)
    found_pairs = {p.image_id: pair for p in images if (pair := matched_pair(p)) is not None}
    pairs = list(found_pairs.values())
    turned = [reordered(run.dataset, name, pair) for name, pair in found_pairs.items()]
    checked = [pair for pair in turned if pair is not None]
    left_out = {}
    procedural = all(image.regions for image in images)
    if not procedural:
        left_out["attributes"] = "only procedural images have true attributes"
    if not pairs:
        left_out["matching"] = "no image has two described true regions"
    elif not checked:
        left_out["matching_checked"] = "which published sentence is of which mask was not read"
    if not run.has_label_maps:
        left_out["agreement"] = (
            "the predicted regions were not kept; evaluate with TEST.SAVE_LABEL_MAPS True"
        )
    lexicon = build_lexicon(text for p in images for text in p.true_sentences)
    masks = summarize(run.records, bootstrap_samples)
    return {
        "dataset": run.dataset,
        "folder": str(folder),
        "method": run.summary.get("method"),
        "k_knowledge": run.summary.get("k_knowledge"),
        "sentences": "true" if true_sentences else "generated",
        "n_images": len(images),
        "n_with_sentences": sum(any(map(str.strip, p.sentences)) for p in images),
        "statuses": masks["statuses"],
        "regions": {
            **{name: masks[name] for name in _OF_REGIONS},
            "ci95": {name: masks["ci95"][name] for name in _OF_REGIONS},
        },
        "attributes": score_attributes(images, bootstrap_samples) if procedural else None,
        "matching": score_matching(pairs, bootstrap_samples) if pairs else None,
        "matching_checked": score_matching(checked, bootstrap_samples) if checked else None,
        "agreement": agreement.result(bootstrap_samples) if run.has_label_maps else None,
        "form": score_form(
            [p.sentences for p in images],
            None if open_vocabulary else lexicon,
            bootstrap_samples,
        ),
        "left_out": left_out,
    }
