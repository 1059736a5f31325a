"""Whole evaluations: true sentences are right in everything, moved ones are not."""

import pytest
from record_files import read_lines, write_sealed
from toy import write_toy_dataset

from detecture.data import load_registered, register_dataset_json
from detecture.data.datasets.description_order import order_of_descriptions
from detecture.data.ground_truth import load_image_and_truth
from detecture.data.lexicon.color_names import color_names
from detecture.data.lexicon.lab import rgb_to_lab
from detecture.data.lexicon.positions import position
from detecture.errors import DatasetError, EvaluationError, ImageError
from detecture.evaluation.words import evaluate_words, format_words
from detecture.evaluation.words.vocabulary import ATTRIBUTES

from .conftest import reworded, write_run

OPTIONS = {"max_pixels": 10_000_000, "bootstrap_samples": 200}


@pytest.fixture(scope="module")
def of_truth(true_run):
    return evaluate_words(true_run, **OPTIONS)


def test_true_sentences(of_truth, scenes):
    """Precision 1 on every attribute; recall what the sentences name, which is not everything."""
    table = of_truth["attributes"]
    for name, row in table.items():
        assert row["precision"] == 1.0 and row["ci95"]["precision"] == [1.0, 1.0], name
        assert row["claims"] > 0 and row["recall"] == row["recall_of_true_sentences"], name
    assert table["pattern"]["recall"] == table["pattern (exact noun)"]["recall"] == 1.0
    assert 0.3 < table["contrast"]["recall"] < 0.8
    assert table["pattern"]["true_values"] == sum(len(s.attributes) for s in scenes)
    assert of_truth["regions"]["pIoU"] == of_truth["regions"]["K_accuracy"] == 1.0
    assert of_truth["agreement"]["color"]["share"] == 1.0
    assert of_truth["agreement"]["color (basic)"]["share"] == 1.0
    assert of_truth["agreement"]["position"]["share"] == 1.0
    assert of_truth["matching"]["accuracy"] == 1.0
    assert of_truth["form"]["all"] == 1.0
    assert set(of_truth["left_out"]) == {"matching_checked"} and of_truth[
        "n_with_sentences"
    ] == len(scenes)


def test_control_of_the_report(of_truth):
    """The moved sentences that every report carries are far below."""
    for name in ("micro", "pattern", "color"):
        assert of_truth["attributes"][name]["precision_rotated"] < 0.55, name
    assert of_truth["agreement"]["color"]["share_of_rotated"] < 0.7
    assert of_truth["agreement"]["position"]["share_of_rotated"] < 0.7


def test_sentences_of_other_regions(true_run, tmp_path, of_truth):
    """The same as a run of its own: regions of an image exchange their sentences."""
    run = reworded(true_run, tmp_path / "run", lambda texts: texts[1:] + texts[:1])
    found = evaluate_words(run, **OPTIONS)
    for name in (*ATTRIBUTES, "micro"):
        row, best = found["attributes"][name], of_truth["attributes"][name]
        assert row["precision"] < 0.85 and row["recall"] < best["recall"] - 0.05, name
    assert found["attributes"]["micro"]["precision"] < 0.6
    assert found["attributes"]["micro"]["claims"] == of_truth["attributes"]["micro"]["claims"]
    assert found["matching"]["accuracy"] == 0.0
    assert found["agreement"]["color"]["share"] < 0.75
    assert found["form"]["all"] == 1.0  # they are still sentences
    # Asked for, the true sentences come back by the masks.
    assert (
        evaluate_words(run, true_sentences=True, **OPTIONS)["attributes"] == of_truth["attributes"]
    )


def test_regions_without_words(true_run, scenes, tmp_path):
    """Silence costs recall, not precision."""
    run = reworded(true_run, tmp_path / "run", lambda texts: [texts[0], *[""] * len(texts[1:])])
    row = evaluate_words(run, **OPTIONS)["attributes"]["pattern"]
    assert row["precision"] == 1.0
    assert row["recall"] == pytest.approx(len(scenes) / row["true_values"])


def test_failed_images_count_as_not_named(true_run, tmp_path, of_truth):
    run = tmp_path / true_run.name
    run.mkdir()  # without label maps
    lines = read_lines(true_run / "records.jsonl")
    for key in ("assignment", "matched_ious", "descriptions"):
        del lines[1][key]
    lines[1] |= {"status": "exception", "error": "out of memory", "k_pred": 0, "pIoU": 0.0}
    write_sealed(run / "records.jsonl", lines)
    (run / "summary.json").write_text((true_run / "summary.json").read_text())
    found = evaluate_words(run, **OPTIONS)
    assert found["attributes"]["micro"]["precision"] == 1.0
    assert found["attributes"]["pattern"]["recall"] < 1.0
    assert found["statuses"] == {"exception": 1, "ok": 15}
    assert found["form"]["all"] == pytest.approx(15 / 16)
    assert found["agreement"] is None and "SAVE_LABEL_MAPS" in found["left_out"]["agreement"]


def test_text_has_every_figure(of_truth):
    text = format_words(of_truth)
    for word in (*ATTRIBUTES, "micro", "two-way matching: 1.000", "position words", "all three"):
        assert word in text
    assert len(text.splitlines()) < 30


@pytest.fixture
def rwtd(require_dataset):
    """The images whose order of descriptions was read."""
    require_dataset("RWTD")
    return [
        record
        for record in load_registered("rwtd")
        if order_of_descriptions(
            "rwtd", record["image_id"], [t["description"] for t in record["textures"]]
        )
    ]


def others(records):
    """All images of RWTD but these."""
    return {r["image_id"] for r in load_registered("rwtd")} - {r["image_id"] for r in records}


def test_published_sentences_of_real_images(rwtd, tmp_path):
    """The sentences that stand at the masks, fed in as predictions; some are of the other one."""
    skip = others(rwtd[::5])
    run = write_run(tmp_path / "rwtd", "rwtd", lambda _, t: t.descriptions, skip=skip)
    found = evaluate_words(run, partial=True, **OPTIONS)
    assert found["matching"]["accuracy"] == 1.0 and found["matching"]["n_images"] == 25
    assert 0.2 < found["matching_checked"]["accuracy"] < 0.8
    oracle = evaluate_words(run, partial=True, true_sentences=True, **OPTIONS)
    assert oracle["matching_checked"]["accuracy"] == 1.0 and oracle["matching"]["accuracy"] < 0.8
    assert found["attributes"] is None and found["agreement"]["color"]["claims"] > 5


def test_measured_sentences_tell_that_the_published_ones_are_at_other_masks(rwtd, tmp_path):
    """Colour and place, measured in the true masks: at chance as published, far above as read."""
    images = {r["image_id"]: load_image_and_truth(r, OPTIONS["max_pixels"])[0] for r in rwtd}

    def measured(image_id, truth):
        for mask in truth.masks:
            lab = rgb_to_lab(images[image_id][mask][::7])
            yield f"{' and '.join(color_names(lab))} surface, {position(mask)}"

    keys = {"TEST.SAVE_LABEL_MAPS": False}
    run = write_run(tmp_path / "rwtd", "rwtd", measured, skip=others(rwtd), **keys)
    found = evaluate_words(run, partial=True, **OPTIONS)
    published, read = found["matching"], found["matching_checked"]
    assert published["n_images"] == read["n_images"] == 125
    assert published["accuracy"] < 0.55 and read["accuracy"] > 0.8
    text = format_words(found)
    assert f"at the masks they are of: {read['accuracy']:.3f}" in text


def test_wrong_input(true_run, tmp_path):
    with pytest.raises(
        DatasetError, match=r"no such file; give the folder of an evaluation.*did you mean"
    ):
        evaluate_words(true_run.parent, **OPTIONS)
    with pytest.raises(DatasetError, match="no such file"):
        evaluate_words(tmp_path / "none", **OPTIONS)
    with pytest.raises(DatasetError, match="has no image"):
        evaluate_words(true_run, "synthetic_test", **OPTIONS)
    with pytest.raises(DatasetError, match="is unknown"):
        evaluate_words(true_run, "words_of_procedural_image", **OPTIONS)
    silent = reworded(true_run, tmp_path / "silent", lambda texts: [""] * len(texts))
    with pytest.raises(EvaluationError, match="has a sentence"):
        evaluate_words(silent, **OPTIONS)


def test_half_finished(procedural, tmp_path, scenes):
    skip = {f"{procedural}_{i:07d}" for i in range(4, len(scenes))}
    run = write_run(tmp_path / procedural, procedural, lambda _, t: t.descriptions, skip=skip)
    with pytest.raises(EvaluationError, match=r"4 of the 16 images.*--partial"):
        evaluate_words(run, **OPTIONS)
    assert evaluate_words(run, partial=True, **OPTIONS)["n_images"] == 4
    (run / "summary.json").unlink()
    with pytest.raises(EvaluationError, match="is not finished"):
        evaluate_words(run, **OPTIONS)
    assert evaluate_words(run, partial=True, **OPTIONS)["dataset"] == procedural
    next((run / "label_maps").glob("*.png")).unlink()
    with pytest.raises(DatasetError, match=r"label_maps.*no such file, but others have one"):
        evaluate_words(run, partial=True, **OPTIONS)


def test_images_that_could_not_be_read(tmp_path):
    """They were in no evaluation, count without sentences, and end nothing."""
    json_file = write_toy_dataset(tmp_path / tmp_path.name, count=3)
    name = register_dataset_json(str(json_file))
    run = write_run(tmp_path / "run" / name, name, lambda _, truth: truth.descriptions)
    lines = read_lines(run / "records.jsonl")
    keys = ("image_id", "mIoU", "pIoU", "mDice", "pDice", "ARI", "coverage", "k_gt", "k_hint")
    failed = {key: lines[1][key] for key in keys} | {"oracle": False}
    lines[1] = failed | {"status": "image_unreadable", "k_pred": 0, "error": "gone"}
    write_sealed(run / "records.jsonl", lines)
    (json_file.parent / "images/toy_0.png").unlink()
    found = evaluate_words(run, name, **OPTIONS)
    assert (found["n_images"], found["n_with_sentences"]) == (3, 2)
    assert found["matching"]["n_images"] == 2
    assert found["statuses"] == {"image_unreadable": 1, "ok": 2}
    (json_file.parent / "images/toy_1.png").unlink()
    with pytest.raises(ImageError, match=r"toy_1\.png: does not exist"):
        evaluate_words(run, name, **OPTIONS)
