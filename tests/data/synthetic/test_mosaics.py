"""Banks of textures, and the mosaics that are composed from them."""

import numpy as np
import pytest
import torch

from detecture.config import make_config
from detecture.data.synthetic import unruly
from detecture.data.synthetic.bank import draw_texture, open_bank
from detecture.data.synthetic.bank_source import BankSource
from detecture.data.synthetic.mosaic import compose_mosaic
from detecture.errors import ConfigError, DatasetError


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tmp_path_factory.mktemp("bank")


def test_bank_is_drawn_once_and_grows_anew(bank):
    first = open_bank(bank, 3)
    written = (bank / "textures.npy").stat().st_mtime_ns
    again = open_bank(bank, 3)
    assert (bank / "textures.npy").stat().st_mtime_ns == written
    assert (first == again).all()
    assert (first[2] == draw_texture(2)).all()


def test_banks_that_do_not_overlap(bank, tmp_path):
    other = open_bank(tmp_path, 2, first=1)
    assert (other == open_bank(bank, 3)[1:]).all()
    assert (open_bank(tmp_path, 2, first=3)[0] == draw_texture(3)).all()
    with pytest.raises(DatasetError, match=r"INPUT\.TEXTURE_BANK\.FIRST -1"):
        open_bank(tmp_path, 2, first=-1)


def test_an_unusable_bank_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"INPUT\.TEXTURE_BANK\.FOLDER"):
        open_bank(tmp_path / "file", 2)
    with pytest.raises(DatasetError, match="at least one"):
        open_bank(tmp_path, 0)


def test_mosaics_are_the_same_at_every_call(bank):
    textures = open_bank(bank, 3)
    for index in range(6):
        image, labels = compose_mosaic(textures, 4, index, 64)
        same, also = compose_mosaic(textures, 4, index, 64)
        assert (image == same).all() and (labels == also).all()
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        present = np.unique(labels)
        assert (present == np.arange(len(present))).all() and 2 <= len(present) <= 6


def test_a_compound_of_two_textures_is_one_region(bank, monkeypatch):
    textures = open_bank(bank, 3)
    monkeypatch.setattr("detecture.data.synthetic.mosaic._COMPOUND", 0.0)
    plain, labels = compose_mosaic(textures, 4, 3, 96, 2)
    monkeypatch.setattr("detecture.data.synthetic.mosaic._COMPOUND", 1.0)
    mixed, same = compose_mosaic(textures, 4, 3, 96, 2)
    assert (labels == same).all()
    changed = np.abs(plain.astype(int) - mixed).max(axis=2) > 24
    # In patches: neither nothing nor everything of a region changes.
    for number in range(2):
        assert 0.05 < changed[labels == number].mean() < 0.95


def test_mosaics_larger_than_their_textures(bank, monkeypatch):
    for part in ("_COMPOUND", "_SPARSE"):
        monkeypatch.setattr(f"detecture.data.synthetic.mosaic.{part}", 1.0)
    image, labels = compose_mosaic(open_bank(bank, 3), 4, 0, 300, 2)
    assert image.shape == (300, 300, 3) and labels.shape == (300, 300)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_mosaics_of_a_given_number(bank, count):
    _, labels = compose_mosaic(open_bank(bank, 3), 4, 0, 64, count)
    assert len(np.unique(labels)) == count


# ---- regions that vary coarsely ------------------------------------------------------------


def test_unruly_regions_have_the_same_borders(bank):
    textures = open_bank(bank, 3)
    plain, labels = compose_mosaic(textures, 4, 1, 96)
    none, _ = compose_mosaic(textures, 4, 1, 96, unruly=0.0)
    wild, same = compose_mosaic(textures, 4, 1, 96, unruly=1.0)
    again, _ = compose_mosaic(textures, 4, 1, 96, unruly=1.0)
    assert (plain == none).all() and (wild == again).all() and (labels == same).all()
    for number in np.unique(labels):
        assert (plain != wild)[labels == number].any(axis=-1).mean() > 0.05


@pytest.mark.parametrize("kind", range(len(unruly._KINDS)))
def test_a_way_to_vary_leaves_a_texture_what_it_is(bank, kind, monkeypatch):
    monkeypatch.setattr(unruly, "_KINDS", unruly._KINDS[kind : kind + 1])
    textures = open_bank(bank, 3)
    inside = np.zeros((96, 96), bool)
    inside[20:70, 30:90] = True
    plain = torch.from_numpy(textures[0][:96, :96].copy()).permute(2, 0, 1).float()
    before = plain.clone()
    for seed in range(8):
        varied = unruly.disturb(np.random.default_rng(seed), plain, inside, textures)
        assert torch.equal(plain, before)  # another texture, not the given one
        assert varied.shape == plain.shape and varied.isfinite().all()
        assert float((varied - plain).abs().mean()) > 0.5
        own = varied[:, torch.from_numpy(inside)].mean() - plain[:, torch.from_numpy(inside)].mean()
        assert abs(float(own)) < 60.0


@pytest.mark.parametrize("cells", [[], [(0, 0)], [(5, 7), (5, 8)]])
def test_tiny_regions_vary_too(bank, cells):
    inside = np.zeros((300, 300), bool)
    for cell in cells:
        inside[cell] = True
    for seed in range(6):
        plain = torch.full((3, 300, 300), 120.0)
        rng = np.random.default_rng(seed)
        assert unruly.disturb(rng, plain, inside, open_bank(bank, 3)).isfinite().all()


def test_a_source_is_what_its_config_says(bank, tmp_path):
    words = ["INPUT.TEXTURE_BANK.FOLDER", str(bank), "INPUT.TEXTURE_BANK.COUNT", "3"]
    source = BankSource(make_config(None, [*words, "INPUT.UNRULY", "1.0"]))
    image, _ = source.mosaic(4, 1, 96)
    assert (image == compose_mosaic(open_bank(bank, 3), 4, 1, 96, unruly=1.0)[0]).all()
    with pytest.raises(ConfigError, match=r"INPUT\.UNRULY is 1\.5"):
        BankSource(make_config(None, [*words, "INPUT.UNRULY", "1.5"]))


@pytest.mark.parametrize("name", ["textures.npy", "about.json"])
def test_a_folder_with_files_of_others_is_no_bank(tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(DatasetError, match=r"no bank of this program; set INPUT\.TEXTURE_BANK"):
        open_bank(tmp_path, 2)
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_bank_whose_drawing_was_killed_is_drawn_again(tmp_path, monkeypatch):
    from detecture.data.synthetic import bank

    original = bank.draw_texture

    def killed(number):
        if number == 1:
            raise KeyboardInterrupt
        return original(number)

    monkeypatch.setattr(bank, "draw_texture", killed)
    with pytest.raises(KeyboardInterrupt):
        open_bank(tmp_path, 2)
    monkeypatch.undo()
    assert (np.asarray(open_bank(tmp_path, 2)[1]) == original(1)).all()
