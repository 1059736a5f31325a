"""The describer: what it is shown, what it learns from, what it writes."""

import numpy as np
import pytest
import torch
from micro import micro_overrides, training_batch

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.config import make_config
from detecture.data.synthetic import render_scene
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model
from detecture.modeling.describer import describer as describer_module
from detecture.modeling.describer import region_views
from detecture.modeling.describer.distinct import other_answer, prefix_of
from detecture.modeling.describer.draw import draw_regions
from detecture.modeling.describer.mask_noise import LEAST_IOU, disturb
from detecture.modeling.describer.views import SURROUNDINGS, resize_masks

WORDS = ["MODEL.META_ARCHITECTURE", "RegionDescriber", "MODEL.VLM.PROMPTS", "describe"]
WORDS += ["MODEL.VLM.TRAIN", "full", "MODEL.VLM.MAX_NEW_TOKENS", "12", "LOSS.LM_WEIGHT", "1.0"]


def describer_model(folder, *overrides, seed=0):
    torch.manual_seed(seed)
    return build_model(make_config(None, [*micro_overrides(folder), *WORDS, *overrides]))


def scene(index=0, size=64, regions=3):
    drawn = render_scene(3, index, size, regions)
    image = torch.from_numpy(np.ascontiguousarray(drawn.image.transpose(2, 0, 1)))
    return image, torch.from_numpy(drawn.masks), drawn.descriptions


def write_always(describer, ids):
    """Make every greedy answer this one, whatever the weights are."""
    describer.vlm.write = lambda prefix, cache: [list(ids) for _ in prefix.ids_BP]


def test_a_view_shows_the_region_in_its_place_and_nothing_else():
    image, masks, _ = scene()
    views = region_views(image, masks, 64)
    assert views.shape == (3, 3, 64, 64)
    for view, mask in zip(views, masks, strict=True):
        assert torch.equal(view[:, mask], image[:, mask])
        around = view[:, ~mask]
        assert torch.equal(
            around, torch.tensor(SURROUNDINGS, dtype=torch.uint8)[:, None] + 0 * around
        )


def test_a_smaller_view_mixes_nothing_into_the_region():
    image = torch.full((3, 90, 60), 120, dtype=torch.uint8)
    mask = torch.zeros(1, 90, 60, dtype=torch.bool)
    mask[0, 7:50, 11:40] = True
    (view,) = region_views(image, mask, 32)
    assert set(map(tuple, view.flatten(1).T.tolist())) == {(120, 120, 120), SURROUNDINGS}


def test_a_hairline_is_still_shown():
    mask = torch.zeros(2, 200, 200, dtype=torch.bool)
    mask[0, 100] = True
    mask[1, 50:150, 20:60] = True
    resized = resize_masks(mask, 20)
    assert resized[0].any()
    assert resized[1].sum() == 10 * 4


def test_masks_of_another_size_or_type_are_refused():
    image, masks, _ = scene()
    with pytest.raises(ValueError, match="must be bool"):
        region_views(image, masks[:, :-1], 32)
    with pytest.raises(ValueError, match="must be bool"):
        region_views(image, masks.float(), 32)


def test_disturbed_masks_are_other_masks_of_the_same_region():
    _, masks, _ = scene(size=96)
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(20):
        for mask in masks.numpy():
            other = disturb(rng, mask)
            overlaps.append((other & mask).sum() / (other | mask).sum())
    assert min(overlaps) >= LEAST_IOU
    assert 0.8 < np.mean(overlaps) < 0.99


def test_drawn_regions_follow_from_the_sample_alone():
    sample = training_batch((5,))[0]
    first, again = draw_regions(sample, 3, 0.5), draw_regions(dict(sample), 3, 0.5)
    assert torch.equal(first.masks_RSS, again.masks_RSS)
    assert first.descriptions == again.descriptions
    other = draw_regions({**sample, "image_id": "another"}, 3, 0.5)
    assert other.descriptions != first.descriptions
    clean = draw_regions(sample, 9, 0.0)
    for mask, text in zip(clean.masks_RSS, clean.descriptions, strict=True):
        number = sample["descriptions"].index(text) + 1
        assert torch.equal(mask, sample["sem_seg"] == number)


def test_every_trained_parameter_gets_a_gradient(tmp_path):
    model = describer_model(tmp_path).train()
    losses = model(training_batch())
    assert set(losses) == {"loss_lm"}
    losses["loss_lm"].backward()
    trained = {name for group in model.parameter_groups() for name in group["names"]}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for _, p in model.named_parameters() if p.requires_grad)
    assert all(name.startswith("describer.vlm.") for name in trained)


def test_low_rank_adapters_train_alone(tmp_path):
    model = describer_model(tmp_path, "MODEL.VLM.TRAIN", "lora").train()
    model(training_batch())["loss_lm"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name or name.endswith(".row")), name


def test_micro_batches_with_common_normalizers_equal_one_batch(tmp_path):
    model = describer_model(tmp_path, "MODEL.DTYPE", "float64").train()
    batch = training_batch((2, 5, 1))
    whole = float(model(batch)["loss_lm"].detach())
    parts = [batch[:1], batch[1:]]
    total = sum(model.loss_normalizers(part)["lm_weights"] for part in parts)
    losses = [model(part, normalizers={"lm_weights": total})["loss_lm"] for part in parts]
    assert abs(whole - sum(float(loss.detach()) for loss in losses)) < 1e-9


def test_the_loss_is_that_of_the_sentence_and_its_end(tmp_path):
    model = describer_model(tmp_path, "MODEL.DTYPE", "float64", "MODEL.DESCRIBER.MASK_NOISE", "0.0")
    vlm = model.describer.vlm
    sample = training_batch((1,))[0]
    loss = float(model.train()([sample])["loss_lm"].detach())
    ids = [*vlm.chat.ids(sample["descriptions"][0]), vlm.chat.end_id]
    views = region_views(sample["image"], (sample["sem_seg"] == 1)[None], vlm.image_size)
    with torch.no_grad():
        prefix = vlm.prefix(vlm.encode_images(list(views)), ["1"])
        states = vlm.teacher_forced(prefix, [ids], predictions=True).predictions_BAD[0]
        probabilities = vlm.logits(states).log_softmax(-1)
    due = -sum(float(row[token]) for row, token in zip(probabilities, ids, strict=True)) / len(ids)
    assert abs(loss - due) < 1e-3  # the mask is resized from the image's size to the view's


def test_a_image_at_once_equals_region_by_region(tmp_path):
    describer = describer_model(tmp_path).eval().describer
    image, masks, _ = scene(index=1)
    together = describer.describe(image, masks)
    alone = [describer.describe(image, mask[None])[0] for mask in masks]
    assert len(together) == 3
    # Only a sentence that was taken already may differ.
    seen = set()
    for one, other in zip(together, alone, strict=True):
        assert one == other or other in seen
        seen.add(one)


def test_empty_masks_get_no_sentence(tmp_path):
    describer = describer_model(tmp_path).eval().describer
    write_always(describer, [*describer.vlm.chat.ids("Texture of wool"), describer.vlm.chat.end_id])
    image, masks, _ = scene()
    masks[1] = False
    found = describer.describe(image, masks)
    assert found[0] == "Texture of wool"
    assert found[1] == ""
    assert describer.describe(image, masks[1:2]) == [""]
    assert describer.describe(image, masks[:0]) == []


def test_of_many_alike_regions_some_are_said_anew(tmp_path, monkeypatch):
    describer = describer_model(tmp_path).eval().describer
    write_always(describer, [*describer.vlm.chat.ids("Texture of wool"), describer.vlm.chat.end_id])
    calls = []

    def other(vlm, prefix, answer, will_do):
        calls.append(len(prefix.ids_BP))
        return answer

    monkeypatch.setattr(describer_module, "other_answer", other)
    masks = torch.eye(30, dtype=torch.bool)[:, None].repeat_interleave(30, 1)
    sentences = describer.describe(torch.zeros(3, 30, 30, dtype=torch.uint8), masks)
    assert sentences == ["Texture of wool"] * 30
    assert calls == [1] * 24


@pytest.mark.parametrize(
    ("said", "better"),
    [
        ("Texture of dark red and dark red wool", "Texture of dark red and red wool"),
        ("Texture of red bands, mostly red with blue,", "Texture of red bands at the top"),
    ],
)
def test_a_sentence_that_is_broken_is_said_anew(tmp_path, monkeypatch, said, better):
    describer = describer_model(tmp_path).eval().describer
    chat = describer.vlm.chat
    write_always(describer, [*chat.ids(said), chat.end_id])

    def other(vlm, prefix, answer, will_do):
        found = [*chat.ids(better), chat.end_id]
        assert will_do(found) and not will_do(answer)
        return found

    monkeypatch.setattr(describer_module, "other_answer", other)
    image, masks, _ = scene()
    assert describer.describe(image, masks[:1]) == [better]


def test_another_answer_begins_alike_and_is_not_taken(tmp_path):
    describer = describer_model(tmp_path).eval().describer
    vlm = describer.vlm
    image, masks, _ = scene()
    prefix = vlm.prefix(vlm.encode_images(list(region_views(image, masks, 64))), ["1"] * 3)
    answer = [*vlm.chat.ids("Texture of red bricks"), vlm.chat.end_id]
    real, kept = vlm.write, {}

    def write(extended, cache):
        kept["ids"] = extended.ids_BP[0].tolist()
        return [[*row[:3], vlm.chat.end_id] for row in real(extended, cache)]

    vlm.write = write
    own = prefix_of(prefix, 1)
    other = other_answer(vlm, own, answer, lambda found: found != answer)
    assert other != answer
    start = kept["ids"][own.ids_BP.shape[1] :]
    assert other[: len(start)] == start
    assert start[:-1] == answer[: len(start) - 1]
    assert start[-1] != answer[len(start) - 1]


def test_it_learns_the_words_of_two_images(tmp_path):
    model = describer_model(tmp_path, "MODEL.DESCRIBER.MASK_NOISE", "0.0").train()
    image = torch.full((3, 56, 56), 40, dtype=torch.uint8)
    image[0, :, 28:] = 220
    labels = torch.ones(56, 56, dtype=torch.int64)
    labels[:, 28:] = 2
    texts = ["Texture of dark sand on the left", "Texture of red wool on the right"]
    sample = {"image": image, "image_id": "a", "sem_seg": labels, "descriptions": texts}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model([dict(sample)])["loss_lm"].backward()
        optimizer.step()
    (output,) = model.eval()([sample])
    assert output["descriptions"] == texts
    assert torch.equal(output["sem_seg"].argmax(0) + 1, labels)


def test_checkpoints_come_back_and_others_are_refused(tmp_path):
    model = describer_model(tmp_path / "a")
    Checkpointer(model, str(tmp_path)).save_weights("kept")
    other = describer_model(tmp_path / "b", "MODEL.RANDOM_WEIGHTS_SEED", "5")
    assert any(
        not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    Checkpointer(other, "").load(str(tmp_path / "kept.safetensors"))
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
    state = model.checkpoint_state()
    state.pop(next(iter(state)))
    with pytest.raises(CheckpointError, match=r"missing: describer\.vlm"):
        other.load_checkpoint_state(state)


def test_bad_settings_and_missing_regions_are_told(tmp_path):
    with pytest.raises(ConfigError, match="REGIONS_PER_IMAGE is 0"):
        describer_model(tmp_path, "MODEL.DESCRIBER.REGIONS_PER_IMAGE", "0")
    with pytest.raises(ConfigError, match=r"MASK_NOISE is 1\.5"):
        describer_model(tmp_path, "MODEL.DESCRIBER.MASK_NOISE", "1.5")
    with pytest.raises(ConfigError, match="LM_WEIGHT"):
        describer_model(tmp_path, "LOSS.LM_WEIGHT", "0.0")
    model = describer_model(tmp_path).eval()
    with pytest.raises(ConfigError, match=r"image_0.*without sem_seg"):
        model([{"image": training_batch()[0]["image"], "image_id": "image_0"}])


def test_the_recipe_builds_trains_and_writes():
    cfg = make_config("configs/recipes/describer.yaml", ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    size = sum(p.numel() for p in model.parameters())
    assert 1e6 < size < 4e6
    sample = {**training_batch((2,), cfg.INPUT.TRAIN_SIZE)[0]}
    model.train()([sample])["loss_lm"].backward()
    (output,) = model.eval()([sample])
    assert len(output["descriptions"]) == 2
