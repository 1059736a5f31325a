"""The stages in which models are asked, small and with random weights; what becomes of scores."""

import json

import pytest
from micro import VLM
from miner_toy import write_ade_toy

from detecture.config import make_config
from detecture.errors import CheckpointError
from detecture.miner.running import Mine
from detecture.miner.score.fusion import Verdict, fuse
from detecture.miner.steps import ask as ask_step
from detecture.modeling.clip.build import STRUCTURES
from detecture.modeling.weights.random_weights import seeded
from detecture.modeling.weights.structure import read_structure


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=6, val=0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with a small CLIP."""
    from transformers import CLIPConfig, CLIPModel

    structure = read_structure("tiny", key="a test", folder=STRUCTURES)
    folder = tmp_path_factory.mktemp("clip")
    with seeded(0):
        CLIPModel(CLIPConfig(**structure)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    """Keys of a small VLM."""
    path = tmp_path_factory.mktemp("vlm") / "vlm.json"
    path.write_text(json.dumps(VLM))
    return [
        *("MODEL.VLM.CONFIG", str(path), "MODEL.VLM.IMAGE_SIZE", "64"),
        *("MODEL.VLM.MAX_NEW_TOKENS", "12", "MODEL.DEVICE", "cpu"),
    ]


def mine_of(ade, output, *more, **settings):
    overrides = ["MINER.SOURCE.NAME", "ade20k", "MINER.SOURCE.ROOT", str(ade)]
    return Mine.of(make_config(None, [*overrides, "OUTPUT_DIR", str(output), *more]), **settings)


def results_of(mine, stage):
    return {item.item_id: mine.result(stage, item) for item in mine.items}


def test_clip_has_a_part_in_every_score_and_in_what_is_selected(ade, clip, tmp_path):
    more = ["MINER.CLIP.ENABLED", "True", "MINER.CLIP.BASE", str(clip), "MODEL.DEVICE", "cpu"]
    mine = mine_of(ade, tmp_path / "out", *more, "MINER.CLIP.BATCH_SIZE", "4")
    assert [o.stage for o in mine.run(["score", "clip", "fuse"])] == ["score", "clip", "fuse"]
    clips, scores = results_of(mine, "clip"), results_of(mine, "score")
    assert all(len(r["positives"]) == 9 and r["status"] == "ok" for r in clips.values())
    wanted = fuse(
        [r["review"] for r in scores.values()], [r["score"] for r in clips.values()], [None] * 6
    )
    fused = results_of(mine, "fuse")
    assert [r["review"] for r in fused.values()] == pytest.approx(wanted)
    assert [r["base"] for r in fused.values()] == [r["review"] for r in scores.values()]
    assert mine.judge == "fuse"
    # What is selected is so by the fused score.
    found = sorted(result["review"] for result in fused.values())
    middle = (found[2] + found[3]) / 2
    keys = ["MINER.SCORE.SELECTED_MIN", str(middle), "MINER.SCORE.BORDERLINE_MIN", "0"]
    mine = mine_of(ade, tmp_path / "out", *more, *keys)
    mine.run(["score", "clip", "fuse"])
    extract = next(stage for stage in mine.stages if stage.name == "extract")
    assert len(mine.tasks(extract)) == sum(score >= middle for score in found)


def test_a_batch_size_changes_no_result(ade, clip, tmp_path):
    more = ["MINER.CLIP.ENABLED", "True", "MINER.CLIP.BASE", str(clip), "MODEL.DEVICE", "cpu"]
    mine_of(ade, tmp_path / "out", *more).run(["score", "clip"])
    again = mine_of(ade, tmp_path / "out", *more, "MINER.CLIP.BATCH_SIZE", "1")
    assert [o.done for o in again.run(["score", "clip"])] == [0, 0]


def test_without_weights_it_is_said_what_is_needed(ade, tmp_path):
    more = ["MINER.CLIP.ENABLED", "True", "MINER.CLIP.BASE", str(tmp_path / "none")]
    with pytest.raises(CheckpointError, match=r"MINER\.CLIP\.BASE"):
        mine_of(ade, tmp_path / "out", *more).run(["score", "clip"])


def test_a_vlm_that_says_nothing_of_use_fails_and_changes_no_score(ade, vlm, tmp_path):
    mine = mine_of(ade, tmp_path / "out", "MINER.ASK.ENABLED", "True", *vlm)
    _, asked, fused = mine.run(["score", "ask", "fuse"])
    assert (asked.done, asked.failed, fused.done) == (6, 6, 6)
    assert all("no JSON object" in r["reason"] for r in results_of(mine, "ask").values())
    before, after = results_of(mine, "score"), results_of(mine, "fuse")
    for name, result in before.items():
        assert after[name]["review"] == pytest.approx(result["review"])


@pytest.mark.parametrize("overlay", [False, True])
def test_the_answers_of_a_vlm_become_a_verdict_and_that_a_score(
    ade, vlm, tmp_path, monkeypatch, overlay
):
    asked = []

    def answers(_, vision, system, questions):
        assert vision.tokens_BVD.shape[0] == len(questions)
        asked.extend(questions)
        if "noisy" in questions[0]:
            said = '{"clear": "yes", "coarse": "no", "regions": 3, "noisy": "no"}'
        else:
            said = (
                '{"real": "yes", "texture": true, "boundary": "Yes.", "object": "no", '
                '"salient": "no", "regions": "three"}'
            )
        return [said] * len(questions)

    monkeypatch.setattr(ask_step, "ask", answers)
    more = ["MINER.ASK.ENABLED", "True", "MINER.ASK.OVERLAY", str(overlay), *vlm]
    mine = mine_of(ade, tmp_path / "out", *more)
    mine.run(["score", "ask", "fuse"])
    for item_id, result in results_of(mine, "ask").items():
        assert result["score"] == 100 and result["decision"] == "match", item_id
        assert result.get("overlay") == (74 if overlay else None)
    assert len(asked) == (12 if overlay else 6)
    scores, fused = results_of(mine, "score"), results_of(mine, "fuse")
    verdict = Verdict(score=100, decision="match")
    for name, result in fused.items():
        assert result["review"] == pytest.approx(
            fuse([scores[name]["review"]], [None], [verdict])[0]
        )
