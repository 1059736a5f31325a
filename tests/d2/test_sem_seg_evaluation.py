"""SemSegEvaluator against plain loops over pixels."""

import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image

from detecture.d2 import DatasetCatalog, MetadataCatalog, SemSegEvaluator, comm, launch

CLASSES = ["wood", "sand", "brick", "moss", "glass"]
IGNORE = 255
NAME = "sem_seg_test"


def write_dataset(folder, truths):
    records = []
    for index, truth in enumerate(truths):
        path = folder / f"{index}.png"
        Image.fromarray(truth.astype(np.uint8)).save(path)
        records.append({"file_name": f"image {index}", "sem_seg_file_name": str(path)})
    return records


def register(records):
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(stuff_classes=CLASSES, ignore_label=IGNORE)


@pytest.fixture
def dataset(tmp_path):
    def make(truths):
        register(write_dataset(tmp_path, truths))

    yield make
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME)


def scores(labels):
    """Scores (C, H, W) whose argmax is `labels`."""
    return torch.nn.functional.one_hot(torch.as_tensor(labels), len(CLASSES)).permute(2, 0, 1)


def run(predictions, **kwargs):
    evaluator = SemSegEvaluator(NAME, **kwargs)
    evaluator.reset()
    for index, prediction in enumerate(predictions):
        record, output = {"file_name": f"image {index}"}, {"sem_seg": scores(prediction)}
        evaluator.process([record], [output])
    return evaluator.evaluate()["sem_seg"]


def reference(truths, predictions):
    """The same metrics by counting pixel by pixel."""
    pairs = [
        (int(t), int(p))
        for truth, prediction in zip(truths, predictions, strict=True)
        for t, p in zip(truth.flat, prediction.flat, strict=True)
        if t != IGNORE
    ]
    result, ious, accuracies, weighted = {}, [], [], 0.0
    for index, name in enumerate(CLASSES):
        both = sum(t == index and p == index for t, p in pairs)
        either = sum(t == index or p == index for t, p in pairs)
        in_truth = sum(t == index for t, _ in pairs)
        result[f"IoU-{name}"] = 100 * both / either if in_truth else math.nan
        result[f"ACC-{name}"] = 100 * both / in_truth if in_truth else math.nan
        if in_truth:
            ious.append(both / either)
            accuracies.append(both / in_truth)
            weighted += both / either * in_truth / len(pairs)
    result["mIoU"] = 100 * sum(ious) / len(ious)
    result["mACC"] = 100 * sum(accuracies) / len(accuracies)
    result["fwIoU"] = 100 * weighted
    result["pACC"] = 100 * sum(t == p for t, p in pairs) / len(pairs)
    return result


def random_maps(seed, count=3):
    generator = np.random.default_rng(seed)
    truths = [generator.choice([0, 1, 2, IGNORE], (6, 7)) for _ in range(count)]
    predictions = [
        np.where(generator.random((6, 7)) < 0.5, truth % 5, generator.integers(0, 4, (6, 7)))
        for truth in truths
    ]
    return truths, predictions


@pytest.mark.parametrize("seed", range(5))
def test_against_pixel_loops(dataset, seed):
    truths, predictions = random_maps(seed)
    dataset(truths)
    results, expected = run(predictions), reference(truths, predictions)
    assert {key for key in results if "Boundary" not in key and "min(" not in key} == set(expected)
    for key, value in expected.items():
        assert results[key] == pytest.approx(value, nan_ok=True), key


def test_denominator(dataset, caplog):
    """Half the wood is taken for moss, which is never there: only wood and sand are averaged."""
    truth = np.array([[0, 0], [1, 1]])
    dataset([truth])
    with caplog.at_level(logging.INFO):
        results = run([np.array([[0, 3], [1, 1]])])
    assert results["mIoU"] == pytest.approx(100 * (0.5 + 1.0) / 2)
    assert math.isnan(results["IoU-moss"])
    assert math.isnan(results["ACC-moss"])
    if "lite" in SemSegEvaluator.__module__:
        assert "mIoU 75.0000 is the mean over the 2 of 5 classes" in caplog.text
        assert "Divided by the 3 classes" in caplog.text
        assert "50.0000" in caplog.text


def test_a_perfect_prediction(dataset):
    truth = np.array([[0, 1], [2, IGNORE]])
    dataset([truth])
    results = run([np.array([[0, 1], [2, 4]])])
    assert [results[key] for key in ("mIoU", "fwIoU", "mACC", "pACC")] == [100.0] * 4


def test_ignored_pixels_do_not_count_as_predicted(dataset):
    dataset([np.array([[0, 0], [IGNORE, 1]])])
    assert run([np.array([[0, 0], [0, 1]])])["IoU-wood"] == 100.0


def test_reset_forgets(dataset):
    dataset([np.array([[0, 1]])])
    evaluator = SemSegEvaluator(NAME)
    for prediction in ([[1, 0]], [[0, 1]]):
        evaluator.reset()
        output = {"sem_seg": scores(np.array(prediction))}
        evaluator.process([{"file_name": "image 0"}], [output])
    assert evaluator.evaluate()["sem_seg"]["pACC"] == 100.0


def test_own_loading_function(dataset):
    dataset([np.array([[0, 0]])])
    kept = np.array([[1, IGNORE]])

    def load(path, dtype):
        assert path.endswith("0.png")
        return kept.astype(dtype)

    assert run([np.array([[1, 2]])], sem_seg_loading_fn=load)["pACC"] == 100.0


@pytest.mark.lite_only  # detectron2 writes into it
def test_array_of_the_loading_function_is_not_changed(dataset):
    dataset([np.array([[0, 0]])])
    kept = np.array([[1, IGNORE]])
    run([np.array([[1, 2]])], sem_seg_loading_fn=lambda path, dtype: kept)
    assert kept.tolist() == [[1, IGNORE]]


def test_another_ignore_label(dataset):
    dataset([np.array([[0, 1]])])
    assert run([np.array([[0, 2]])], ignore_label=1)["pACC"] == 100.0


def test_counts_beyond_float32_are_exact(dataset):
    """Counts of a large data set do not fit into float32, nor into int32."""
    dataset([np.array([[0, 1]])])
    evaluator = SemSegEvaluator(NAME)
    evaluator.reset()
    evaluator._conf_matrix[0, 0] = 2**40
    evaluator._conf_matrix[1, 0] = 1
    iou = evaluator.evaluate()["sem_seg"]["IoU-wood"]
    assert iou == pytest.approx(100 * 2**40 / (2**40 + 1), rel=1e-15)
    assert iou < 100.0


def test_results_are_saved(dataset, tmp_path):
    dataset([np.array([[0, 1]])])
    results = run([np.array([[0, 0]])], output_dir=str(tmp_path / "out"))
    saved = torch.load(
        tmp_path / "out/sem_seg_evaluation.pth",
        weights_only="lite" in SemSegEvaluator.__module__,
    )
    assert saved["mIoU"] == results["mIoU"] == 25.0


@pytest.mark.lite_only  # detectron2 fails with another text, or counts silently
class TestMistakes:
    def test_size(self, dataset):
        dataset([np.array([[0, 1]])])
        with pytest.raises(ValueError, match=r"0\.png.*\(1, 2\)"):
            run([np.array([[0], [1]])])

    def test_label_that_is_no_class(self, dataset):
        dataset([np.array([[0, 77]])])
        with pytest.raises(ValueError, match=r"0\.png.*77"):
            run([np.array([[0, 1]])])

    def test_more_scores_than_classes(self, dataset):
        dataset([np.array([[0, 1]])])
        evaluator = SemSegEvaluator(NAME)
        too_many = torch.zeros(6, 1, 2)
        too_many[5, 0, 0] = 1.0
        with pytest.raises(ValueError, match="class 5"):
            evaluator.process([{"file_name": "image 0"}], [{"sem_seg": too_many}])

    def test_number_of_classes(self, dataset):
        dataset([np.array([[0, 1]])])
        with pytest.raises(ValueError, match="num_classes is 4"):
            SemSegEvaluator(NAME, num_classes=4)

    def test_nothing_to_count(self, dataset, caplog):
        dataset([np.array([[IGNORE, IGNORE]])])
        assert math.isnan(run([np.array([[0, 1]])])["mIoU"])
        assert "No pixel" in caplog.text

    def test_label_map_of_another_format(self, dataset, tmp_path):
        dataset([np.array([[0, 1]])])
        Image.new("L", (2, 1)).save(tmp_path / "0.png", format="GIF")
        with pytest.raises(OSError, match="cannot identify"):
            run([np.array([[0, 1]])])

    def test_label_map_that_is_a_bomb(self, dataset, monkeypatch):
        dataset([np.zeros((4, 4), dtype=int)])
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12)
        with pytest.raises(Image.DecompressionBombWarning):
            run([np.zeros((4, 4), dtype=int)])


def test_palette_and_sixteen_bit_label_maps(dataset, tmp_path):
    dataset([np.array([[0, 1]]), np.array([[0, 0]])])
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0] * 256)
    palette.putpixel((0, 0), 2)
    palette.putpixel((1, 0), 3)
    palette.save(tmp_path / "0.png")
    Image.fromarray(np.array([[4, 1]], dtype=np.uint16)).save(tmp_path / "1.png")
    assert run([np.array([[2, 3]]), np.array([[4, 1]])])["pACC"] == 100.0


def evaluate_share(folder, truths, predictions):
    """Each of two processes counts every other image."""
    register(write_dataset(folder, truths) if comm.is_main_process() else read_records(folder))
    comm.synchronize()
    evaluator = SemSegEvaluator(NAME)
    evaluator.reset()
    for index in range(comm.get_rank(), len(truths), 2):
        record, output = {"file_name": f"image {index}"}, {"sem_seg": scores(predictions[index])}
        evaluator.process([record], [output])
    torch.save(evaluator.evaluate(), folder / f"rank{comm.get_rank()}.pth")


def read_records(folder):
    return [
        {"file_name": f"image {index}", "sem_seg_file_name": str(folder / f"{index}.png")}
        for index in range(3)
    ]


@pytest.mark.lite_only  # detectron2's launch needs accelerators
@pytest.mark.skipif(torch.cuda.is_available(), reason="with accelerators, launch uses those")
def test_two_processes_count_together(tmp_path):
    truths, predictions = random_maps(11)
    launch(evaluate_share, 2, dist_url="auto", args=(tmp_path, truths, predictions))
    assert torch.load(tmp_path / "rank1.pth") is None
    results = torch.load(tmp_path / "rank0.pth")["sem_seg"]
    for key, value in reference(truths, predictions).items():
        assert results[key] == pytest.approx(value, nan_ok=True), key
