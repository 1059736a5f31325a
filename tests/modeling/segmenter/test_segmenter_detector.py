"""The detector: boxes as prompts, and what finds single objects."""

import pytest
import torch
from modeling.segmenter.toy_sam3 import WIDTH, encode, make, structure, tokenize

from detecture.errors import CheckpointError, ConfigError, DetectureError
from detecture.modeling.segmenter import Sam3Meta, Sam3Transformers
from detecture.modeling.segmenter.name_map import meta_to_transformers, transformers_to_meta

BOXES = torch.tensor([[[0.3, 0.6, 0.4, 0.5], [0.7, 0.2, 0.2, 0.3]], [[0.5, 0.5, 1.0, 1.0]] * 2])
INDEX = torch.tensor([1, 0])


@pytest.fixture(scope="module")
def detecting_hf():
    return make(Sam3Transformers, with_detector=True).eval()


@pytest.fixture(scope="module")
def detecting_meta(detecting_hf):
    segmenter = make(Sam3Meta, with_detector=True).eval()
    state = transformers_to_meta(detecting_hf.state_dict(), with_detector=True)
    segmenter.load_weights(state, "test")
    return segmenter


@pytest.fixture(params=["detecting_hf", "detecting_meta"])
def detecting(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def whole(detecting_hf):
    """Transformers' own model with the same weights."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    model = transformers.Sam3Model(transformers.Sam3Config(**structure())).eval()
    missing, unexpected = model.load_state_dict(detecting_hf.state_dict(), strict=False)
    assert unexpected == []
    assert all(".3." in name or ".2." in name for name in missing)  # a level that nothing uses
    return model


def test_text_and_boxes_like_the_whole_model(detecting_hf, whole, images):
    ids, mask = tokenize(["brick", "oak"])
    pixels = detecting_hf.preprocess(images)
    features = detecting_hf.encode_image(pixels)
    index = torch.tensor([0, 1])
    with torch.no_grad():
        theirs = whole(
            pixel_values=pixels,
            input_ids=ids,
            attention_mask=mask.long(),
            input_boxes=BOXES,
            input_boxes_labels=torch.ones(2, 2, dtype=torch.int64),
        )
        text, text_mask = detecting_hf.text_features(["brick", "oak"])
        boxes, boxes_mask = detecting_hf.exemplar_prompt(features, index, BOXES)
        prompt = torch.cat([text, boxes], dim=1)
        prompt_mask = torch.cat([text_mask, boxes_mask], dim=1)
        logits = detecting_hf.semantic_logits(features, index, prompt, prompt_mask)
    assert boxes.shape == (2, 3, WIDTH)
    assert boxes_mask.all()
    torch.testing.assert_close(logits, theirs.semantic_seg, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("with_boxes", [True, False])
def test_proposals_like_the_whole_model(detecting, whole, images, with_boxes):
    ids, mask = tokenize(["brick", "oak"])
    pixels = detecting.preprocess(images)
    index = torch.tensor([0, 1])
    boxes = {"input_boxes": BOXES, "input_boxes_labels": torch.ones(2, 2, dtype=torch.int64)}
    with torch.no_grad():
        theirs = whole(
            pixel_values=pixels,
            input_ids=ids,
            attention_mask=mask.long(),
            **(boxes if with_boxes else {}),
        )
        features = detecting.encode_image(pixels)
        prompt, prompt_mask = detecting.text_features(["brick", "oak"])
        if with_boxes:
            more, more_mask = detecting.exemplar_prompt(features, index, BOXES)
            prompt = torch.cat([prompt, more], dim=1)
            prompt_mask = torch.cat([prompt_mask, more_mask], dim=1)
        ours = detecting.proposals(features, index, prompt, prompt_mask)
    scores = theirs.pred_logits.sigmoid() * theirs.presence_logits.sigmoid()
    queries = scores.shape[1]
    assert ours.mask_logits.shape == (2, queries, 28, 28)
    assert ours.mask_logits.std() > 0.01
    assert ours.scores.std() > 1e-3
    torch.testing.assert_close(ours.mask_logits, theirs.pred_masks, atol=5e-5, rtol=1e-5)
    torch.testing.assert_close(ours.scores, scores, atol=5e-5, rtol=1e-5)
    torch.testing.assert_close(ours.boxes, theirs.pred_boxes, atol=5e-5, rtol=1e-5)
    assert ((ours.boxes[..., :2] + ours.boxes[..., 2:]) / 2).sub(0.5).abs().max() <= 0.5


def test_backends_agree(detecting_hf, detecting_meta, images, prompts):
    prompt, mask, index = prompts
    results = []
    for segmenter in (detecting_hf, detecting_meta):
        features = encode(segmenter, images)
        leaf = prompt.clone().requires_grad_()
        text = segmenter.proposals(features, index, leaf, mask)
        one = segmenter.proposals(features, index, leaf[:, :1])
        boxes, boxes_mask = segmenter.exemplar_prompt(features, INDEX, BOXES)
        boxed = segmenter.proposals(features, INDEX, boxes, boxes_mask)
        (text.mask_logits.square().mean() + text.scores.mean() + text.boxes.mean()).backward()
        results.append(
            [boxes, boxes_mask, leaf.grad]
            + [part for p in (text, one, boxed) for part in (p.mask_logits, p.scores, p.boxes)]
        )
    assert results[0][2].abs().max() > 1e-5
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-5)


def test_presence_is_limited(detecting_hf, detecting_meta, images, prompts):
    """Meta's package means to clamp the presence logits to 10, and does not."""
    prompt, mask, index = prompts
    for segmenter, name in (
        (detecting_hf, "detr_decoder.presence_head.layer3.bias"),
        (detecting_meta, "transformer.decoder.presence_token_head.layers.2.bias"),
    ):
        copy = make(type(segmenter), with_detector=True).eval()
        copy.load_state_dict(segmenter.state_dict())
        copy.state_dict()[name].fill_(-50.0)
        scores = copy.proposals(encode(copy, images), index, prompt, mask).scores
        assert scores.max() <= 1 / (1 + torch.tensor(10.0).exp())
        assert scores.max() > 1e-6


def test_proposals_batch_equals_single(detecting, images, prompts):
    prompt, mask, index = prompts
    with torch.no_grad():
        together = detecting.proposals(encode(detecting, images), index, prompt, mask)
        for n in (0, 3):
            alone = detecting.proposals(
                encode(detecting, [images[int(index[n])]]),
                torch.zeros(1, dtype=torch.int64),
                prompt[n : n + 1],
                mask[n : n + 1],
            )
            for ours, theirs in (
                (together.mask_logits, alone.mask_logits),
                (together.scores, alone.scores),
                (together.boxes, alone.boxes),
            ):
                torch.testing.assert_close(ours[n : n + 1], theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
def test_checkpointing_and_training_mode(kind, images, prompts):
    prompt, mask, index = prompts
    segmenter = make(kind, with_detector=True)
    with torch.inference_mode():  # leaves nothing behind that a gradient could not pass
        features = segmenter.encode_image(segmenter.preprocess(images))
        segmenter.proposals(features, index, prompt, mask)
    found = []
    for segmenter.gradient_checkpointing in (False, True):
        torch.manual_seed(3)  # of the dropout
        leaf = prompt.clone().requires_grad_()
        proposals = segmenter.proposals(encode(segmenter, images), index, leaf, mask)
        (proposals.mask_logits.mean() + proposals.scores.sum()).backward()
        found.append(leaf.grad)
    assert found[0].abs().max() > 0
    assert torch.equal(*found)


def test_names_round_trip(detecting_hf, detecting_meta):
    theirs = transformers_to_meta(detecting_hf.state_dict(), with_detector=True)
    own = {n for n in detecting_meta.state_dict() if not n.endswith("freqs_cis")}
    assert theirs.keys() == own
    back = meta_to_transformers(theirs, with_detector=True)
    assert back.keys() == detecting_hf.state_dict().keys()
    assert all(torch.equal(back[n], t) for n, t in detecting_hf.state_dict().items())


def test_names_are_strict(detecting_hf, hf):
    state = detecting_hf.state_dict()
    odd = {**transformers_to_meta(state, with_detector=True)}
    odd["geometry_encoder.points_pool_project.weight"] = torch.zeros(1)  # what boxes do not need
    meta_to_transformers(odd, with_detector=True)
    odd["transformer.decoder.new.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"left over: transformer\.decoder\.new\.weight"):
        meta_to_transformers(odd, with_detector=True)
    with pytest.raises(CheckpointError, match=r"left over: detr_decoder\.junk"):
        detecting_hf.load_weights({**state, "detr_decoder.junk": torch.zeros(1)}, "test")
    with pytest.raises(CheckpointError, match=r"missing: detr_decoder\.box_head\..* and \d+ more"):
        detecting_hf.load_weights(hf.state_dict(), "test")
    # A segmenter without the detector takes its own part of the weights.
    make(Sam3Transformers).load_weights(state, "test")


def test_without_the_detector_nothing_is_added(hf, meta):
    for segmenter in (hf, meta):
        with_detector = make(type(segmenter), with_detector=True)
        path = [name for name, _ in segmenter.path_parameters()]
        assert [name for name, _ in with_detector.path_parameters()] == path
        assert not segmenter.has_detector
        assert with_detector.has_detector
        own = dict(segmenter.named_parameters()).keys()
        added = dict(with_detector.named_parameters()).keys() - own
        assert own < dict(with_detector.named_parameters()).keys()
        assert not any(name.startswith(("vision", "backbone", "text")) for name in added)


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
def test_file_of_meta(detecting_hf, images, prompts, tmp_path, kind):
    prompt, mask, index = prompts
    state = transformers_to_meta(detecting_hf.state_dict(), with_detector=True)
    torch.save({"model": {f"detector.{n}": t for n, t in state.items()}}, tmp_path / "sam3.pt")
    loaded = make(kind, base=str(tmp_path / "sam3.pt"), with_detector=True).eval()
    with torch.no_grad():
        found = loaded.proposals(encode(loaded, images), index, prompt, mask)
        expected = detecting_hf.proposals(encode(detecting_hf, images), index, prompt, mask)
    torch.testing.assert_close(found.scores, expected.scores, atol=5e-5, rtol=1e-5)


def test_folder_of_transformers(detecting_hf, whole, tmp_path):
    whole.save_pretrained(tmp_path)
    loaded = Sam3Transformers(base=str(tmp_path), with_detector=True)
    expected = {n: t for n, t in detecting_hf.state_dict().items() if "text_encoder" not in n}
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(loaded.state_dict()[n], t) for n, t in expected.items())


def test_full_size_counts():
    with torch.device("meta"):
        segmenters = [Sam3Transformers(structure="sam3", with_detector=w) for w in (False, True)]
    path, detector = (sum(p.numel() for p in s.parameters()) for s in segmenters)
    assert (path, detector - path) == (464_366_337, 21_104_693)


def test_sizes_of_the_detector_must_fit():
    odd = structure()
    odd["detr_decoder_config"]["hidden_size"] = 32
    Sam3Transformers(structure=odd)
    for kind in (Sam3Transformers, Sam3Meta):
        with pytest.raises(ConfigError, match=r"detr_decoder_config.*\[16, 32\]"):
            kind(structure=odd, with_detector=True)


def test_a_box_prompt_is_that_of_its_own_image(detecting, images):
    features = encode(detecting, images)
    with torch.no_grad():
        prompt, mask = detecting.exemplar_prompt(features, INDEX, BOXES)
        for row, image in enumerate(INDEX.tolist()):
            alone, _ = detecting.exemplar_prompt(
                encode(detecting, [images[image]]), torch.zeros(1).long(), BOXES[row : row + 1]
            )
            torch.testing.assert_close(prompt[row : row + 1], alone, atol=1e-5, rtol=1e-5)
        swapped, _ = detecting.exemplar_prompt(features, 1 - INDEX, BOXES)
        logits = detecting.semantic_logits(features, INDEX, prompt, mask)
    assert (prompt - swapped).abs().max() > 1e-3
    assert logits.shape == (2, 1, 28, 28)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_masked_boxes_do_not_count(detecting, images):
    features = encode(detecting, images)
    real = torch.tensor([[True, False], [True, True]])
    with torch.no_grad():
        prompt, mask = detecting.exemplar_prompt(features, INDEX, BOXES, real)
        one, _ = detecting.exemplar_prompt(features, INDEX[:1], BOXES[:1, :1])
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    torch.testing.assert_close(prompt[0, :2], one[0], atol=1e-5, rtol=1e-5)


def test_no_boxes_and_wrong_boxes(detecting, images):
    features = encode(detecting, images)
    prompt, mask = detecting.exemplar_prompt(features, INDEX[:0], BOXES[:0])
    assert prompt.shape == (0, 3, WIDTH)
    assert mask.shape == (0, 3)
    none = detecting.proposals(features, INDEX[:0], prompt, mask)
    assert none.mask_logits.shape == (0, 0, 28, 28)
    assert none.boxes.shape == (0, 0, 4)
    assert detecting.semantic_logits(features, INDEX[:0], prompt, mask).shape == (0, 1, 28, 28)
    with pytest.raises(ValueError, match=r"\(N,R,4\), not \(2, 4\)"):
        detecting.exemplar_prompt(features, INDEX, BOXES[:, 0])


def test_boxes_need_the_detector(hf, images):
    with pytest.raises(DetectureError, match="with_detector=True"):
        hf.exemplar_prompt(encode(hf, images), INDEX, BOXES)
    with pytest.raises(DetectureError, match="with_detector=True"):
        hf.proposals(encode(hf, images), INDEX, torch.zeros(2, 1, WIDTH))


def test_lower_precision(detecting, images, prompts):
    prompt, mask, index = prompts

    def run(segmenter):
        with torch.no_grad():
            features = encode(segmenter, images)
            boxes, _ = segmenter.exemplar_prompt(features, INDEX, BOXES)
            found = segmenter.proposals(features, index, prompt, mask)
        return boxes, found.mask_logits, found.scores

    exact = run(detecting)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for near, right in zip(run(detecting), exact, strict=True):
            assert (near.float() - right).norm() < 0.1 * right.norm()
    for dtype, off in ((torch.bfloat16, 0.1), (torch.float64, 1e-5)):
        copy = make(type(detecting), with_detector=True).eval()
        copy.load_state_dict(detecting.state_dict())
        for near, right in zip(run(copy.to(dtype)), exact, strict=True):
            assert near.dtype == dtype
            assert (near.double() - right).norm() < off * right.norm()


def test_its_own_autocast_is_the_one_around_it(detecting, images, prompts):
    prompt, mask, index = prompts

    def run(segmenter):
        with torch.no_grad():
            features = encode(segmenter, images)
            found = segmenter.proposals(features, index, prompt, mask)
            return (
                *features.levels,
                segmenter.text_features(["moss"])[0],
                segmenter.exemplar_prompt(features, INDEX, BOXES)[0],
                segmenter.pixel_embeddings(features, index, prompt, mask),
                segmenter.semantic_logits(features, index, prompt, mask),
                found.mask_logits,
                found.scores,
            )

    copy = make(type(detecting), with_detector=True).eval()
    copy.load_state_dict(detecting.state_dict())
    copy.autocast = torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        due = run(detecting)
    for ours, theirs in zip(run(copy), due, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    assert not torch.equal(run(detecting)[0].float(), due[0].float())
    assert copy.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
