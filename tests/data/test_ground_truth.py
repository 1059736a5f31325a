import numpy as np
import pytest
from PIL import Image

from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.ground_truth import load_ground_truth
from detecture.errors import DatasetError

LIMIT = 10_000


@pytest.fixture
def record_of(tmp_path):
    """Writes a 3 x 4 image with the given grey masks, and returns its dataset dict."""

    def make(*masks: np.ndarray | None) -> dict:
        Image.new("RGB", (4, 3)).save(tmp_path / "image.png")
        textures = []
        for i, levels in enumerate(masks):
            path = tmp_path / f"mask_{i}.png"
            if levels is not None:
                Image.fromarray(np.asarray(levels, np.uint8)).save(path)
            textures.append({"description": f"texture {i}", "mask_file": str(path)})
        return {
            "file_name": str(tmp_path / "image.png"),
            "image_id": "p",
            "textures": textures,
        }

    return make


def test_masks_are_kept_apart_and_painted_in_order(record_of):
    first, second = np.zeros((2, 3, 4), np.uint8)
    first[:, :3] = 255
    second[:, 1:] = [128, 127, 255]  # the middle one is background
    truth = load_ground_truth(record_of(first, second), LIMIT)
    assert truth.masks.dtype == bool and truth.masks.shape == (2, 3, 4)
    np.testing.assert_array_equal(truth.masks[0, 0], [True, True, True, False])
    np.testing.assert_array_equal(truth.masks[1, 0], [False, True, False, True])
    assert truth.index_map.dtype == np.int32
    np.testing.assert_array_equal(truth.index_map[0], [1, 2, 1, 2])
    assert truth.descriptions == ["texture 0", "texture 1"]


def test_unlabelled_is_zero_and_a_mask_may_be_painted_over(record_of):
    small, large = np.zeros((2, 3, 4), np.uint8)
    small[0, 0] = 255
    large[:2] = 255
    truth = load_ground_truth(record_of(small, large), LIMIT)
    np.testing.assert_array_equal(truth.index_map[:, 0], [2, 2, 0])
    assert truth.masks[0].sum() == 1  # still there, though painted over


def test_empty_masks_go_with_their_descriptions(record_of):
    empty, faint, full = (np.full((3, 4), level, np.uint8) for level in (0, 127, 255))
    truth = load_ground_truth(record_of(empty, full, faint), LIMIT)
    assert truth.descriptions == ["texture 1"] and len(truth.masks) == 1
    assert (truth.index_map == 1).all()


def test_no_mask_left(record_of):
    with pytest.raises(DatasetError, match=r"image 'p' .*none of its 2 masks has any foreground"):
        load_ground_truth(record_of(*np.zeros((2, 3, 4), np.uint8)), LIMIT)


def test_mask_of_another_size_names_both(record_of, tmp_path):
    record = record_of(np.full((3, 4), 255), np.full((4, 3), 255))
    with pytest.raises(DatasetError) as caught:
        load_ground_truth(record, LIMIT)
    assert str(caught.value) == (
        f"image 'p' ({tmp_path}/image.png), mask {tmp_path}/mask_1.png: is 4 x 3 pixels "
        "(height x width) where 3 x 4 are expected; draw the mask at the size of its image"
    )


def test_missing_mask_and_unreadable_image(record_of, tmp_path):
    record = record_of(np.full((3, 4), 255), None)
    with pytest.raises(DatasetError, match=r"'p' .*mask .*mask_1\.png: does not exist"):
        load_ground_truth(record, LIMIT)
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"'p': .*image\.png: is empty"):
        load_ground_truth(record, LIMIT)


def test_limit_on_pixels(record_of):
    with pytest.raises(DatasetError, match="12 pixels are more than the limit of 11"):
        load_ground_truth(record_of(np.full((3, 4), 255)), 11)


def test_real_data(require_dataset):
    """RWTD: two masks that split the image. BSDS_coarse: 2 to 6 regions of at least 1 %."""
    for name, least, most in (("RWTD", 2, 2), ("BSDS_coarse", 2, 6)):
        root = require_dataset(name)
        for record in load_texture_json(root / "metadata.json", root)[:20]:
            truth = load_ground_truth(record, 10**7)
            assert least <= len(truth.masks) <= most
            shares = truth.masks.mean(axis=(1, 2))
            assert shares.min() >= 0.01 and shares.sum() == pytest.approx(1)
