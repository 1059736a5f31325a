"""Config files, overrides, benchmark protocols, prompts and wordings."""

from functools import cache
from pathlib import Path

import yaml

from detecture.benchmark.protocol import read_protocols
from detecture.benchmark.results import K_ACCESS
from detecture.config import make_config
from detecture.config.checks import all_keys, get_key
from detecture.conversion.wording import load_wording
from detecture.d2 import CfgNode
from detecture.data.k_hint import FROM_TRUTH
from detecture.data.prompts import DEFAULT_PROMPTS, PromptTemplate, answer_text, parse_lines
from detecture.data.questions import Questions, load_questions
from detecture.errors import brief
from tests.fuzz.case import target
from tests.fuzz.inputs import nested, write, write_yaml
from tests.fuzz.mutators import MARK, NUMBERS, TEXTS, altered, damaged, hostile

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
VALID = {
    "MODEL.META_ARCHITECTURE": ["TextureGrouping", "TextureClusters"],
    "MODEL.DEVICE": ["cpu"],
    "MODEL.WEIGHTS": ["", "a b.safetensors", "2024"],
    "SOLVER.MAX_ITER": [1, 60, 40000],
    "SOLVER.BASE_LR": [1e-4, 0.5, 1],
    "SOLVER.STEPS": [[10, 20], [30]],
    "SEED": [0, 7],
    "DATASETS.TEST": [["samples"], ["rwtd", "stld"]],
    "INPUT.MAX_PIXELS": [1000, 10**8],
    "TEST.LIMIT": [0, 5],
    "TEST.COUNT": ["regime", "autonomous", 3],
    "OUTPUT_DIR": ["out", "./output"],
}
"""Keys and values of them that nothing may refuse."""


@cache
def defaults():
    """The defaults, and the names of all keys that are no sections."""
    cfg = make_config(None)
    return cfg, [key for key in all_keys(cfg) if not isinstance(get_key(cfg, key, ""), CfgNode)]


def _tree(pairs):
    tree = {}
    for key, value in pairs.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return tree


def _same(found, given):
    if isinstance(given, list):
        return list(found) == given
    return str(found) == str(given) or found == given


def _check_config(case, cfg):
    """The types are those of the defaults, and what is written down is read again as it is."""
    standard, keys = defaults()
    for key in keys:
        value, default = get_key(cfg, key, ""), get_key(standard, key, "")
        assert default is None or type(value) is type(default), f"{key}: {value!r:.100}"
    path = case.folder / "written.yaml"
    path.write_text(cfg.dump(), encoding="utf-8")
    assert make_config(path).dump() == cfg.dump()


@target(weight=10)
def config(case):
    """A yaml file of a config, with its bases."""
    draw = case.draw
    keys = draw.sample(sorted(VALID), draw.randint(1, 6))
    pairs = {key: draw.choice(VALID[key]) for key in keys}
    tree = _tree(pairs)
    bases = {}
    if case.chance(0.4):
        bases["base.yaml"] = {"SEED": 5, "TEST": {"LIMIT": 3}}
        tree = {"_BASE_": draw.choice(["base.yaml", ["base.yaml"], "./base.yaml"]), **tree}
    if case.chance(0.5):  # any key, with its default or near it, or with anything
        key = draw.choice(defaults()[1])
        now = get_key(defaults()[0], key, "")
        now = list(now) if isinstance(now, tuple) else now
        near = now if case.chance(0.3) else altered(draw, now, times=1)
        tree |= _tree({key: draw.choice((near, near, hostile(draw)))})
    sound = len(tree) == len(_tree(pairs)) + bool(bases) and all(
        tree.get(k) == v for k, v in _tree(pairs).items()
    )
    for name, base in bases.items():
        if case.chance(0.3):
            base = {"_BASE_": draw.choice(["config.yaml", "base.yaml", *TEXTS[:30]]), **base}
        sound &= write_yaml(case, case.folder / name, base) and "_BASE_" not in base
    case.sound = write_yaml(case, case.folder / "config.yaml", tree) and sound
    cfg = make_config(case.folder / "config.yaml")
    if case.sound:
        wrong = [k for k, v in pairs.items() if not _same(get_key(cfg, k, ""), v)]
        assert not wrong, wrong
    _check_config(case, cfg)


@target(weight=10)
def overrides(case):
    """KEY VALUE pairs of a command line."""
    draw = case.draw
    words = []
    sound = True
    for _ in range(draw.randint(1, 4)):
        kind = draw.random()
        key = draw.choice(sorted(VALID))
        value = draw.choice(VALID[key])
        text = value if isinstance(value, str) else repr(value)
        if kind > 0.3:
            sound = False
            key = draw.choice(defaults()[1])
            now = get_key(defaults()[0], key, "")
            text = draw.choice(
                [
                    repr(now),
                    repr(hostile(draw)),
                    draw.choice(TEXTS),
                    repr(draw.choice(NUMBERS)),
                    repr((now, now)),
                    nested(MARK.format(draw.choice((50, 200, 100_000)))),
                    damaged(draw, repr(now).encode()).decode("utf-8", "surrogateescape"),
                ]
            )
        if kind > 0.9:
            key = draw.choice([*TEXTS, key.lower(), key + ".X", key.rpartition(".")[0], key[:-1]])
        words += [key, text]
    if case.chance(0.03):
        words.pop()
        sound = False
    (case.folder / "words.txt").write_text(repr(words), encoding="utf-8")
    case.sound = sound
    cfg = make_config(None, words)
    _check_config(case, cfg)


@cache
def _protocols():
    """The shipped protocol files with absolute paths, as plain values."""
    trees = []
    for name in ("benchmark.yaml", "benchmark_semantic.yaml"):
        tree = yaml.safe_load((CONFIGS / name).read_text("utf-8"))
        for method in tree["methods"].values():
            for key in ("config", "random_config"):
                if method.get(key):
                    method[key] = str(CONFIGS / method[key])
        trees.append(tree)
    return trees


@target(weight=6)
def protocol(case):
    """A benchmark's protocol file."""
    tree = case.draw.choice(_protocols())
    path = case.folder / "protocol.yaml"
    case.sound = write_yaml(case, path, tree)
    found = read_protocols(path)
    for plan in found.protocols.values():
        for method, entries in plan.entries.items():
            for entry in entries.values():
                assert set(entry.variants) <= set(found.methods[method].variants)
    root = case.folder / "cells"
    leaky = [plan["leaks"] for plan in yaml.safe_load(path.read_bytes())["protocols"].values()]
    for name, leaks in zip(found.protocols, leaky, strict=True):
        for cell in found.cells(name):
            assert cell.config.is_file()
            assert cell.folder(root).resolve().is_relative_to(root), cell.folder(root)
            words = cell.overrides()
            assert len(words) % 2 == 0 and all(isinstance(word, str) for word in words)
            assert leaks or K_ACCESS.get(cell.k_access) not in FROM_TRUTH


@target(weight=6)
def prompts(case):
    """A yaml file of a prompt's wording."""
    own = DEFAULT_PROMPTS
    tree = {
        "system": own.system,
        "user": own.user,
        "assistant_line": own.line,
        "assistant_join": own.joiner,
        "seg_token": own.seg_token,
        "warm_start_token": own.warm_start_token,
        "end_token": own.end_token,
    }
    path = case.folder / "prompts.yaml"
    case.sound = write_yaml(case, path, tree)
    found = PromptTemplate.from_yaml(path)
    _check_prompts(case, found)
    if case.sound:
        assert found == own


def _check_prompts(case, found):
    assert PromptTemplate.from_dict(found.to_dict()) == found
    texts = ["sand", f"a {found.seg_token} b", "{i} {description}", case.draw.choice(TEXTS)[:500]]
    answer = answer_text(found, texts, case.draw.choice(("released", "newline")))
    assert answer.count(found.seg_token) == len(texts), brief(answer)
    assert answer.count(found.end_token) == 1, brief(answer)
    assert "{N}" not in found.user_text(3)
    assert len(parse_lines(answer.split(found.seg_token)[:-1])) == len(texts)


@target(weight=5)
def wording(case):
    """A Python source with the constants of a wording, which is never run."""
    source = (
        f"SYSTEM_PROMPT = {DEFAULT_PROMPTS.system!r}\n"
        "USER_PROMPT = 'Regions: {n}. ' + 'TEXTURE_1: Texture of <phrase> <|seg|>'\n"
        "LINE = 'TEXTURE_{}: {} <|seg|>'\nJOIN = '\\n'\n"
        "class Other:\n    NAME = 'x'\nOTHER = NUMBER = 3\n"
    )
    path = case.folder / "wording.py"
    data = source.encode()
    if case.chance(0.12):
        path.write_bytes(data)
        case.sound = True
    else:
        extra = [
            *("import os\nos.mkdir('ran')\n", "(" * 5000, "-" * 100_000 + "1", "x = " + "[" * 500),
            *("SYSTEM = " + "+".join(["'a'"] * 20_000), "A = B = C\n", "x = '\\ud800'\n", "\f"),
            *("# coding: utf-7\n", "# coding: nothing\n", "a." * 10_000 + "b", "if 1:\n" * 150),
        ]
        draw = case.draw
        if case.chance(0.4):
            data = draw.choice(
                (data + draw.choice(extra).encode(), draw.choice(extra).encode() + data)
            )
        else:
            data = damaged(draw, data)
        write(case, path, data)
    _check_prompts(case, load_wording(path))


@target(weight=4)
def questions(case):
    """A yaml file of what a VLM is asked."""
    own = Questions(
        system="See.",
        subject="Find the {subject}.",
        pair="Two regions.",
        exact="There are {count} regions.",
        open="At most {most} regions.",
        form="Answer so:\n{lines}",
        line="TEXTURE_{i}: <text>",
    )
    path = case.folder / "questions.yaml"
    case.sound = write_yaml(case, path, dict(vars(own)))
    found = load_questions(str(path), "MODEL.X")
    for k in (None, 1, 2, 7):
        text = found.ask(k, 6, "water")
        assert "<|" not in text.replace("water", ""), brief(text)
    if case.sound:
        assert found == own
