"""A VLM on this machine, small and with random weights: what it is asked, and in batches."""

import json

import numpy as np
import pytest
import torch
from micro import VLM
from miner.endpoints import GOOD, answer_of
from miner.scenes import LOOK, described_together, task

pytest.importorskip("pydantic", reason='answers need pydantic: pip install -e ".[miner-api]"')

from detecture.config import make_config
from detecture.config.sections.detecture import VlmSettings
from detecture.data.prompts import DEFAULT_PROMPTS
from detecture.errors import DetectureError, MinerError
from detecture.miner.describe import DescribeRunner, DescribeSettings, build_describer, local_vlm
from detecture.miner.describe.local_vlm import LocalVlmDescriber
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.backbone import random_backbone


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    path = tmp_path_factory.mktemp("vlm") / "vlm.json"
    path.write_text(json.dumps(VLM))
    settings = VlmSettings(
        train="none", stop_supervision="released", image_size=64, max_new_tokens=12
    )
    options = {"settings": settings, "with_seg_rows": False, "prompts": DEFAULT_PROMPTS}
    return Qwen3VL(backbone=random_backbone(str(path)), **options)


def run(describer, count=5, **more):
    runner = DescribeRunner(describer, DescribeSettings(describer="local_vlm", **more))
    return dict(described_together(runner, (task(f"image{i}", seed=i) for i in range(count))))


def test_random_weights_answer_and_are_refused_with_the_reason(vlm):
    results = run(LocalVlmDescriber(vlm, LOOK, batch_size=2))
    assert len(results) == 5
    for result in results.values():
        assert result["status"] == "failed" and result["attempts"] == 2
        assert "holds no JSON object" in result["reason"]
        assert result["offline"] is False and result["cost"] == 0
        assert result["tokens"][0] > 100 and result["tokens"][1] > 0


def test_batches_are_as_single_images(vlm, monkeypatch):
    tasks = [task(f"image{i}", seed=i, width=40 + 9 * i) for i in range(3)]
    written = []

    def kept(*args):
        answers = ask(*args)
        written.extend(answers)
        return answers

    ask = local_vlm.ask
    monkeypatch.setattr(local_vlm, "ask", kept)
    describer = LocalVlmDescriber(vlm, LOOK)
    together = describer.describe_batch(tasks, [""] * 3)
    alone = [describer.describe(one.image, one.index_mask, one.class_names) for one in tasks]
    assert together == alone
    assert written[:3] == written[3:] and len(set(written)) > 1


def test_good_answers_become_descriptions_and_bad_ones_are_asked_for_again(vlm, monkeypatch):
    asked = []

    def answers(_, vision, system, questions):
        asked.append(list(questions))
        assert vision.tokens_BVD.shape[0] == len(questions)
        return [
            answer_of(2) if "could not be used" in q or i else "no" for i, q in enumerate(questions)
        ]

    monkeypatch.setattr(local_vlm, "ask", answers)
    results = run(LocalVlmDescriber(vlm, LOOK, batch_size=3), count=3)
    assert {result["status"] for result in results.values()} == {"ok"}
    assert results["image1"]["descriptions"] == GOOD[:2]
    assert [len(questions) for questions in asked] == [3, 1]
    assert 'texture_a (red): "wall"' in asked[0][0]
    assert "You see it twice in one canvas: above as it is, below" in asked[0][0]


def test_without_an_overlay_the_image_alone_is_shown(vlm):
    shown, words = LocalVlmDescriber(vlm)._shown(task())
    assert np.array_equal(shown, task().image) and "list says where" in words
    shown, words = LocalVlmDescriber(vlm, LOOK)._shown(task())
    assert shown.shape == (96, 64, 3)


def test_it_is_built_from_a_config(tmp_path, caplog):
    path = tmp_path / "vlm.json"
    path.write_text(json.dumps(VLM))
    cfg = make_config(
        None,
        ["MODEL.VLM.CONFIG", str(path), "MODEL.VLM.IMAGE_SIZE", "64", "MODEL.DEVICE", "cpu"],
    )
    settings = DescribeSettings(describer="local_vlm", batch_size=3)
    describer = build_describer(settings, cfg, LOOK)
    assert isinstance(describer, LocalVlmDescriber) and describer.batch_size == 3
    assert "MODEL.VLM.BASE is empty" in caplog.text
    assert not any(p.requires_grad for p in describer.vlm.parameters())
    assert next(describer.vlm.parameters()).device == torch.device("cpu")
    with pytest.raises(MinerError, match=r"MODEL\.VLM"):
        build_describer(settings)


def test_an_unknown_describer_is_named():
    with pytest.raises(DetectureError, match="use one of offline, local_vlm, openai, anthropic"):
        build_describer(DescribeSettings(describer="magic"))
