import pytest
import torch

from detecture.data.k_hint import KHint
from detecture.evaluation.label_map import scores_to_label_map
from detecture.modeling.region_channels import (
    MISSING_LOGIT,
    logits_of_probabilities,
    output_from_regions,
    resize_scores,
    smallest_first,
    without_duplicates,
)


def test_probabilities_become_scores_around_zero():
    scores = logits_of_probabilities(torch.tensor([[[0.0, 0.5, 1.0]]]))
    assert scores.flatten().tolist() == [-5.0, 0.0, 5.0]
    hard = logits_of_probabilities(torch.tensor([[[True, False]]]))
    assert hard.flatten().tolist() == [5.0, -5.0]


def test_scores_are_resized_before_any_threshold():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1.0
    half = resize_scores(mask, (4, 4))
    assert half.shape == (1, 4, 4)
    assert torch.equal(half[0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    odd = resize_scores(mask, (5, 5))  # the border falls into a pixel
    assert 0.0 < float(odd[0, 0, 2]) < 1.0
    assert resize_scores(torch.zeros(0, 8, 8), (4, 6)).shape == (0, 4, 6)
    assert resize_scores(mask, (8, 8)) is mask


def test_a_nested_mask_stays_when_the_smaller_comes_first():
    whole = torch.ones(4, 4, dtype=torch.bool)
    centre = torch.zeros(4, 4, dtype=torch.bool)
    centre[1:3, 1:3] = True
    logits = logits_of_probabilities(torch.stack([whole, centre]))
    order = smallest_first(logits)
    assert order == [1, 0]
    large_first = scores_to_label_map(
        output_from_regions(logits, ["", ""], KHint(), 0.0)["sem_seg"]
    )
    assert set(large_first.flatten()) == {1}
    small_first = scores_to_label_map(
        output_from_regions(logits[order], ["", ""], KHint(), 0.0)["sem_seg"]
    )
    assert ((small_first == 1) == centre.numpy()).all()
    assert ((small_first == 2) == ~centre.numpy()).all()


def test_duplicates_are_dropped_in_order():
    masks = torch.zeros(4, 10, 10, dtype=torch.bool)
    masks[0, :5] = True
    masks[1, :5] = True
    masks[1, 4, :1] = False  # IoU 49/50
    masks[2, 5:] = True
    assert without_duplicates(masks, 0.9) == [0, 2, 3]  # an empty mask is like none
    assert without_duplicates(masks, 0.99) == [0, 1, 2, 3]
    assert without_duplicates(masks[:0], 0.9) == []


def test_output_pads_and_cuts_to_the_hint():
    logits = logits_of_probabilities(torch.eye(3, dtype=torch.bool)[:, None].expand(3, 2, 3))
    free = output_from_regions(logits, ["a", "b", "c"], KHint(), 0.0)
    assert free["sem_seg"].shape == (4, 2, 3)
    assert free["descriptions"] == ["a", "b", "c"]
    assert free["status"] == "ok"
    cut = output_from_regions(logits, ["a", "b", "c"], KHint("regime", 2), 0.0)
    assert cut["descriptions"] == ["a", "b"]
    assert scores_to_label_map(cut["sem_seg"])[0].tolist() == [1, 2, 0]
    padded = output_from_regions(logits[:1], ["a"], KHint("regime", 2), 0.0)
    assert padded["descriptions"] == ["a", ""]
    assert bool((padded["sem_seg"][1] == MISSING_LOGIT).all())
    assert padded["status"] == "ok"


def test_nothing_found_is_all_dustbin():
    nothing = torch.zeros(0, 2, 3)
    blind = output_from_regions(nothing, [], KHint(), 0.0)
    assert blind["sem_seg"].shape == (1, 2, 3)
    assert blind["status"] == "no_region"
    told = output_from_regions(nothing, [], KHint("regime", 2), 0.0)
    assert told["descriptions"] == ["", ""]
    assert told["status"] == "no_region"
    assert set(scores_to_label_map(told["sem_seg"]).flatten()) == {0}


def test_counts_must_agree():
    with pytest.raises(ValueError, match="1 masks and 2 descriptions"):
        output_from_regions(torch.zeros(1, 2, 2), ["a", "b"], KHint(), 0.0)
