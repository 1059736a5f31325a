"""What a foreign file may hold, and everybody who reads one.

`FILES` are contents of whole files. `VALUES` may stand in the place of any value of a sound file.
`LOADERS` are the readers, each with the name and the sound content of a file that it takes.
"""

import copy
import io
import json
import pickle
import runpy
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save

from detecture.benchmark.manifest import Request, write_index
from detecture.benchmark.protocol import read_protocols
from detecture.benchmark.published import load_published
from detecture.benchmark.read_cells import read_cells
from detecture.benchmark.results import read_summary
from detecture.checkpoint.json_files import seal
from detecture.checkpoint.manifest import read_manifest
from detecture.checkpoint.search import checkpoints_of, find_checkpoint, verify_content
from detecture.checkpoint.torch_file import read_torch_file, verify_checksums
from detecture.checkpoint.weights_file import read_header, read_weights
from detecture.config import make_config
from detecture.conversion.published import read_published
from detecture.conversion.wording import load_wording
from detecture.d2.lite.checkpoint import DetectionCheckpointer
from detecture.d2.lite.config import CfgNode
from detecture.data.datasets.semantic import register_semantic_folder
from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.formats.brush_rle import to_brush_rle
from detecture.data.formats.bsds500 import read_segmentations
from detecture.data.formats.coco_rle import read_coco
from detecture.data.formats.cvat import read_cvat_export
from detecture.data.formats.dds import read_dds
from detecture.data.formats.debian import read_copyright
from detecture.data.formats.fiftyone_directory import read_fiftyone
from detecture.data.formats.label_studio import read_label_studio, read_label_studio_json
from detecture.data.formats.mat_files import read_mat
from detecture.data.prompts import PromptTemplate
from detecture.data.questions import load_questions
from detecture.data.vocabulary import Vocabulary
from detecture.engine.run_folder import trim_metrics
from detecture.evaluation.record_check import record_problem
from detecture.evaluation.record_lines import read_lines
from detecture.evaluation.words import image
from detecture.jobs.crew import read_failure
from detecture.miner.journal import Journal, cost_ever, files_ever
from detecture.miner.review_page.picks import read_picks
from detecture.miner.sources.ade20k import read_object_info
from detecture.miner.sources.coco import Coco
from detecture.miner.sources.folder import Folder
from detecture.miner.sources.sa1b import Sa1b
from detecture.modeling.clip.word_tokenizer import WordTokenizer
from detecture.modeling.weights.meta_file import read_meta_file
from detecture.modeling.weights.structure import read_structure
from detecture.recipes.stages import keep_to

REPO = Path(__file__).resolve().parents[1]

# ---- whole files -----------------------------------------------------------------------------

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def _torch_zip(content: bytes) -> bytes:
    return _zip(a__data__pkl=content).replace(b"a/data/pkl", b"a/data.pkl")


def _safetensors(header: bytes | dict[str, Any], size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + bytes(8)


def _saved(content: Any, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("1",))


_ZEROS = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\x10\xa5\xd4\xe8\0\x85R."
_META = {"detecture": "{}", "sha256": "0" * 64}
_TENSOR = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}

FILES: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n\n ",
    "a word": b"word",
    "null": b"null",
    "a number": b"12",
    "a text": b'"text"',
    "an empty list": b"[]",
    "an empty mapping": b"{}",
    "a list of lists": b"[[], [[]], {}]",
    "a list of nulls": b"[null, null]",
    "cut": b'{"a": [1, 2',
    "date": b"a: 2024-01-01",
    "date as key": b"2024-01-01: a",
    "tag int": b'a: !!int ""',
    "tag bool": b"a: !!bool maybe",
    "tag float": b"a: !!float x",
    "tag timestamp": b"a: !!timestamp nonsense",
    "tag timestamp, sound": b"a: !!timestamp 2024-01-01",
    "tag timestamp, year 0": b"a: !!timestamp 0000-01-01",
    "tag map": b"a: !!map [1]",
    "tag seq": b"a: !!seq {b: 1}",
    "tag set": b"!!set {a, b}",
    "tag omap": b"!!omap [a: 1]",
    "tag binary": b"a: !!binary '%'",
    "tag python": b"a: !!python/object/apply:os.system [ls]",
    "tag of 100,000 letters": b"a: !" + b"x" * 100_000 + b" 1",
    "list as key": b"{[]: 1}",
    "mapping as key": b"? {a: 1}\n: 1",
    "number as key": b"1: a",
    "true as key": b"yes: a",
    "key twice": b"a: 1\na: 2",
    "merge of a text": b"<<: text",
    "merge of itself": b"a: &a {<<: *a}",
    "brackets": b"[" * 100_000,
    "brackets, closed": b"[" * 3000 + b"]" * 3000,
    "braces": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "deep block": b"".join(b" " * i + b"a:\n" for i in range(500)),
    "deep sequence": b"- " * 5_000,
    "alias of itself": b"&a [*a]",
    "alias of itself, below": b"a: &a {b: *a}",
    "alias bomb": _BOMB.encode(),
    "many aliases": b"a: &a x\nb: [" + b"*a," * 20_000 + b"]",
    "alias of nobody": b"a: *nobody",
    "number of 400 digits": b"a: " + b"9" * 400,
    "number of 5000 digits": b"a: " + b"9" * 5000,
    "number of 5000 digits in JSON": b'{"a": ' + b"9" * 5000 + b"}",
    "number in base 60": b"a: " + b"59:" * 3000 + b"1",
    "number in base 2": b"a: 0b" + b"1" * 50_000,
    "number of 400 digits behind the point": b'{"a": 1.' + b"9" * 100_000 + b"}",
    "NaN": b"a: .nan",
    "NaN in JSON": b'[{"a": NaN}]',
    "1e999": b'{"a": 1e999}',
    "half a character": b'{"a": "\\ud800"}',
    "half a character as key": b'{"\\udfff": 1}',
    "NUL": b"a: \0",
    "NUL escaped": b'{"a": "\\u0000"}',
    "long word": b"x" * 100_000,
    "long text": b'["' + b"x" * 100_000 + b'"]',
    "long key": b'{"' + b"k" * 100_000 + b'": 1}',
    "long key of a mapping": b'{"' + b"k" * 900 + b'": {"' + b"l" * 100_000 + b'": [1e999]}}',
    "many keys": b"{" + b",".join(b'"k%d": 1' % i for i in range(5_000)) + b"}",
    "long text in Chinese": ('["' + "\u4e00" * 100_000 + '"]').encode(),
    "many items": b"[" + b"1," * 10_000 + b"1]",
    "control characters": b'{"a\\u001b[2J": "\\u001b[31m\\u0007"}',
    "two documents": b"--- 1\n--- 2",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-be"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "Latin-1": '{"a": "gr\xfcn"}'.encode("latin-1"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "random bytes": bytes(i * i * 7 % 251 for i in range(5000)),
    "pickle": pickle.dumps({"a": 1}),
    "pickle that runs": pickle.dumps(_Runs()),
    # BINBYTES8, BINUNICODE8, LONG4, FRAME and BYTEARRAY8: a length, and nothing behind it.
    "pickle of 10^12 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 10**12),
    "pickle of 10^12 letters": b"\x80\x04\x8d" + struct.pack("<Q", 10**12),
    "pickle of a number of 2^31 bytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1),
    "pickle of a text of 2^32 bytes": b"\x80\x02X" + struct.pack("<I", 2**32 - 1),
    "pickle with a frame of 10^12": b"\x80\x04\x95" + struct.pack("<Q", 10**12) + b"}.",
    "pickle of an array of 10^12": b"\x80\x05\x96" + struct.pack("<Q", 10**12),
    "pickle that pops nothing": b"\x80\x020.",
    "pickle, memo of 2^32": b"\x80\x02}r\xff\xff\xff\xff.",
    "pickle, deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "zip": _zip(a=b"b"),
    "zip, cut": _zip(a=b"b")[:-10],
    "torch zip of 10^12 bytes": _torch_zip(b"\x80\x02\x8e" + struct.pack("<Q", 10**12)),
    "torch zip of a text of 2^32": _torch_zip(b"\x80\x02X" + struct.pack("<I", 2**32 - 1)),
    "torch zip that runs": _torch_zip(pickle.dumps(_Runs(), 2)),
    "torch zip that is empty": _torch_zip(b""),
    # What an allowed call fills with zeros, and an archive that unpacks to a hundred times itself.
    "pickle that calls bytearray(10^12)": _ZEROS,
    "torch zip that calls bytearray": _torch_zip(_ZEROS),
    "torch zip, a bomb": _torch_zip(b"\x80\x02" + b"N0" * 4_000_000 + b"}."),
    "torch, expanded to 10^12": _saved({"a": torch.zeros(1).expand(10**12)}),
    "torch, a list": _saved([1]),
    "torch, no names": _saved({1: torch.zeros(1)}),
    "torch, no tensors": _saved({"model": {"a": "b"}, "iteration": "x"}),
    "torch, deep": _saved({"model": {"model": {"model": [1]}}}),
    "torch, long key": _saved({"k" * 50_000: torch.zeros(1)}),
    "torch, legacy": _saved({"a": torch.zeros(1)}, legacy=True),
    "torch, legacy, cut": _saved({"a": torch.zeros(100)}, legacy=True)[:-50],
    "torch, cut": _saved({"a": torch.zeros(100)})[:-50],
    "safetensors, no header": _safetensors(b"word"),
    "safetensors, header of 10^12 bytes": _safetensors(b"{}", 10**12),
    "safetensors, header of 2^63 bytes": _safetensors(b"{}", 2**63),
    "safetensors, header of 90 MB": _safetensors(b"{}", 90_000_000),
    "safetensors, deep header": _safetensors(b'{"a":' * 5000),
    "safetensors, list as header": _safetensors(b"[]"),
    "safetensors, 10^12 numbers": _safetensors(
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    ),
    "safetensors, overflowing shape": _safetensors(
        {"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 8]}}
    ),
    "safetensors, unknown type": _safetensors(
        {"a": {"dtype": "F1", "shape": [2], "data_offsets": [0, 8]}}
    ),
    "safetensors, offsets backwards": _safetensors(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}
    ),
    "safetensors, metadata no texts": _safetensors({"__metadata__": {"a": 1}} | _TENSOR),
    "safetensors, metadata no table": _safetensors({"__metadata__": []} | _TENSOR),
    "safetensors, no digest": _safetensors({"__metadata__": {"detecture": "{}"}} | _TENSOR),
    "safetensors, wrong digest": _safetensors({"__metadata__": _META} | _TENSOR),
    "safetensors, deep metadata": _safetensors(
        {"__metadata__": _META | {"detecture": "[" * 100_000}} | _TENSOR
    ),
    "safetensors, long name": save({"n" * 100_000: torch.zeros(1)}),
    "XML": b"<annotations/>",
    "XML, cut": b"<annotations><image",
    "XML, deep": b"<annotations>" + b"<image>" * 100_000,
    "XML, entities": b'<!DOCTYPE a [<!ENTITY b "bbb">]><annotations>&b;</annotations>',
    "XML, no image": b"<annotations><image/></annotations>",
    "XML, digits": b'<annotations><image height="\xd9\xa1" width="1"/></annotations>',
    "XML, long name": b'<annotations><image name="' + b"x" * 100_000 + b'"/></annotations>',
    "XML, UTF-16": '<?xml version="1.0"?><annotations/>'.encode("utf-16"),
    "Python": b"x = " + b"(" * 5000,
    "Python, deep": b"x = " + b"-" * 100_000 + b"1",
}

# ---- single values ---------------------------------------------------------------------------


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "fraction": 1.5,
    "huge": 10**30,
    "400 digits": 10**399,
    "1e308": 1e308,
    "empty text": "",
    "blank": " ",
    "word": "word",
    "dot": ".",
    "up": "../../x",
    "root": "/",
    "Windows": "C:\\data\\images\\x.png",
    "NUL": "a\0b",
    "nobody's home": "~nosuch/x.png",
    "variable": "$NOSUCH_VARIABLE/x",
    "3,000 parts": "a/" * 3000 + "x",
    "long name": "n" * 5000,
    "long text": "x" * 100_000,
    "long in Chinese": "\u4e00" * 3000,
    "half a character": "a\ud800b",
    "escape": "\x1b[2J\x07",
    "lines": "a\n" * 3000,
    "braces": "{}{0}{x!r}%s",
    "list": [],
    "list of null": [None],
    "list of lists": [[], [[]]],
    "many": [1] * 5000,
    "mapping": {},
    "mapping with a long key": {"k" * 5000: 1},
    "deep": _deep(50),
    "too deep": _deep(100),
}


def changed(content: Any, value: Any) -> list[tuple[str, Any]]:
    """Where, and the content with the value in place of one of its own, for each of its own."""
    found: list[tuple[str, Any]] = []

    def walk(node: Any, path: tuple[Any, ...]) -> None:
        if path:
            new = copy.deepcopy(content)
            inner = new
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            found.append((".".join(map(str, path)), new))
        if isinstance(node, (dict, list)):
            for step, part in node.items() if isinstance(node, dict) else enumerate(node):
                walk(part, (*path, step))

    walk(content, ())
    return found


# ---- who reads them --------------------------------------------------------------------------


def as_yaml(content: Any) -> bytes:
    """A yaml file; what has no place in one, halves of characters, as escapes."""
    return json.dumps(content).encode() if _is_odd(content) else yaml.safe_dump(content).encode()


def _is_odd(content: Any) -> bool:
    return "\\ud800" in json.dumps(content)


def as_json(content: Any) -> bytes:
    """A JSON file."""
    return json.dumps(content).encode()


def as_lines(content: Any) -> bytes:
    """A file of JSON lines."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in content)


def as_sealed(content: Any) -> bytes:
    """A file of sealed JSON lines."""
    lines = (seal(one) if isinstance(one, dict) else one for one in content)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@dataclass(frozen=True)
class Loader:
    """A reader of a foreign file.

    Attributes:
        name: of the file, below a folder of its own.
        read: reads the file at a path, whole.
        sound: what it takes, as plain values; None: only whole files are tried.
        write: plain values to the file's content.
        beside: further files, by names below the folder.
        refuses: what the error says with which it refuses even this; empty: it takes it.
    """

    name: str
    read: Callable[[Path], Any]
    sound: Any = None
    write: Callable[[Any], bytes] = as_json
    beside: Mapping[str, bytes] = field(default_factory=dict)
    refuses: str = ""


def _based(path: Path) -> Any:
    top = path.with_name("top.yaml")
    top.write_text(f"_BASE_: {path.name}\n")
    return make_config(top)


def _base_text(path: Path) -> Any:
    """The content of the file as the name of a base."""
    top = path.with_name("top.yaml")
    top.write_text(json.dumps({"_BASE_": path.read_bytes().decode("utf-8", "replace")}))
    return make_config(top)


def _override(key: str) -> Callable[[Path], Any]:
    return lambda path: make_config(None, [key, path.read_bytes().decode("utf-8", "replace")])


def _override_key(path: Path) -> Any:
    return make_config(None, [path.read_bytes().decode("utf-8", "replace"), "1"])


def _items(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda path: [_masks(one) for one in read(path)]


def _masks(found: Any) -> Any:
    return list(found.masks()) if hasattr(found, "masks") else found


def _coco_source(path: Path) -> Any:
    source = Coco(str(path.parents[1]))
    return source.class_names, [source.segments_info(item) for item in source.items()]


def _sa1b(path: Path) -> Any:
    source = Sa1b(str(path.parent))
    return [source.read_labels(item) for item in source.items()]


def _lite(path: Path) -> Any:
    return DetectionCheckpointer(torch.nn.Linear(1, 1)).load(str(path))


def _journal(path: Path) -> Any:
    files_ever(path), cost_ever(path)
    journal = Journal(path, "h")
    with journal:
        return list(journal.results())


@cache
def _script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(REPO / "datasets" / f"{name}.py"))


def _pascal(path: Path) -> Any:
    return _script("prepare_pascal_context")["prepare_59"](
        path.parent, Namespace(workers=0, overwrite=True)
    )


def _checkpoints(path: Path) -> Any:
    return read_manifest(path.parent), checkpoints_of(path.parent)


_SEGMENTS = {"counts": [1, 2, 1], "size": [2, 2]}
_COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 2, "width": 2, "item_id": "a"}],
    "annotations": [
        {"id": 1, "image_id": 1, "segmentation": _SEGMENTS, "attributes": {"description": "x"}},
        {"id": 2, "image_id": 1, "segmentation": [[0, 0, 0, 2, 2, 2]], "description": "y"},
    ],
}
_TASK = {
    "data": {"image": "/x/a.png", "item_id": "a", "height": 1, "width": 1, "split": "", "more": {}},
    "annotations": [
        {
            "was_cancelled": False,
            "result": [
                {
                    "id": "r",
                    "type": "brushlabels",
                    "original_width": 1,
                    "original_height": 1,
                    "image_rotation": 0,
                    "value": {"rle": to_brush_rle(np.ones((1, 1), bool)), "brushlabels": ["1"]},
                },
                {"id": "r", "type": "textarea", "value": {"text": ["sand"]}},
            ],
        }
    ],
}
_PROTOCOLS = {
    "methods": {
        "b": {
            "label": "B",
            "config": "method.yaml",
            "random_config": "method.yaml",
            "weights": "x",
            "variants": {"plain": {"TEST.DUSTBIN_LOGIT": -1.0}},
        }
    },
    "protocols": {
        "p": {
            "note": "a note",
            "datasets": ["rwtd"],
            "leaks": False,
            "methods": {"b": {"pair": {"variants": ["plain"], "k": "regime"}}},
        }
    },
}
_PUBLISHED = [
    {
        "title": "t",
        "source": "s",
        "differs": ["d"],
        "metrics": ["mIoU"],
        "datasets": ["rwtd"],
        "rows": [{"method": "m", "note": "n", "values": [[0.5]]}],
    }
]
_INDEX = {
    "protocol": "p",
    "request": {"a": 1},
    "cells": [
        {
            "method": "m",
            "label": "M",
            "dataset": "rwtd",
            "variant": "v",
            "k_access": "none",
            "random_weights": False,
            "folder": "cells/m",
            "state": "done",
            "note": "",
        }
    ],
}
_RECORDS = [
    {"fingerprint": {"a": "b"}},
    {"image_id": "a", "status": "ok", "mIoU": 0.5, "pIoU": 0.5, "ARI": 0.5, "k_pred": 1, "k_gt": 1},
]
_RECORD = {
    "id": "a",
    "hash": "h",
    "files": "f",
    "given": "g",
    "size": 1,
    "result": {"status": "ok", "cost": 0.5, "files": {"x.png": "0"}, "index_mask": "m.png"},
}
_CLASSES = ["sky", "sand|beach", ["reed", "rush"], {"background": ["bag", ["bed", "cot"]]}]
_METADATA = [
    {
        "id": "a",
        "image_path": "images/a.png",
        "textures": [{"description": "sand", "mask_path": "masks/a.png"}],
        "more": 1,
    },
    {
        "crop_name": "b",
        "image_path": "images/b.png",
        "mask_a_path": "masks/b.png",
        "mask_b_path": "masks/c.png",
        "texture_a": "x",
        "texture_b": "y",
    },
]
_CONFIG = {
    "MODEL": {"WEIGHTS": "x", "MAX_REGIONS": 3},
    "SOLVER": {"BASE_LR": 0.1, "STEPS": [1, 2], "CLIP_GRADIENTS": {"ENABLED": True}},
    "DATASETS": {"TEST": ["rwtd"]},
    "INPUT": {"CROP": {"SIZE": [0.5, 0.5]}, "MIN_SIZE_TRAIN": [3]},
    "TEST": {"EXPECTED_RESULTS": [["texture", "mIoU", 0.5, 0.1]], "COUNT": "regime"},
    "OUTPUT_DIR": "./output",
    "SEED": 1,
}
_PROMPTS = {
    "system": "s",
    "user": "{N}",
    "assistant_line": "{i} {description} <|seg|>",
    "assistant_join": "\n",
    "seg_token": "<|seg|>",
    "warm_start_token": "<|im_end|>",
    "end_token": "<|im_end|>",
}
_QUESTIONS = {
    "system": "s",
    "subject": "{subject}",
    "pair": "p",
    "exact": "{count}",
    "open": "{most}",
    "form": "{lines}",
    "line": "{i}",
}
_PANOPTIC = {
    "categories": [{"id": 1, "name": "sky", "isthing": 0}],
    "annotations": [
        {"file_name": "a.png", "segments_info": [{"id": 1, "category_id": 1, "area": 1}]}
    ],
}
_SA1B = {
    "image": {"height": 2, "width": 2},
    "annotations": [
        {
            "segmentation": _SEGMENTS,
            "area": 2,
            "bbox": [0, 0, 2, 2],
            "predicted_iou": 0.9,
            "stability_score": 0.9,
        }
    ],
}
_DETAIL = {
    "images": [{"image_id": 7, "file_name": "a.jpg", "phase": "val", "height": 2, "width": 2}],
    "annos_segmentation": [{"image_id": 7, "category_id": 2, "segmentation": _SEGMENTS}],
}
_SUMMARY = {"n_total": 1, "dataset": "rwtd", "mIoU": 0.5, "more": [1]}

LOADERS: dict[str, Loader] = {
    "config": Loader("config.yaml", make_config, _CONFIG, as_yaml),
    "base of a config": Loader("base.yaml", _based, _CONFIG, as_yaml),
    "name of a base": Loader("base.txt", _base_text),
    "override, text": Loader("value.txt", _override("OUTPUT_DIR")),
    "override, number": Loader("value.txt", _override("SOLVER.BASE_LR")),
    "override, list": Loader("value.txt", _override("SOLVER.STEPS")),
    "override, results": Loader("value.txt", _override("TEST.EXPECTED_RESULTS")),
    "override, count": Loader("value.txt", _override("TEST.COUNT")),
    "override, device": Loader("value.txt", _override("MODEL.DEVICE")),
    "override, key": Loader("value.txt", _override_key),
    "Detectron2's config": Loader(
        "config.yaml",
        lambda p: CfgNode.load_yaml_with_base(str(p)),
        {"_BASE_": ["x"], "A": {"B": 1}},
        as_yaml,
        beside={"x": b""},
    ),
    "prompts": Loader("prompts.yaml", PromptTemplate.from_yaml, _PROMPTS, as_yaml),
    "wording, yaml": Loader("wording.yaml", load_wording, _PROMPTS, as_yaml),
    "wording, Python": Loader("wording.py", load_wording),
    "questions": Loader("q.yaml", lambda p: load_questions(str(p), "K"), _QUESTIONS, as_yaml),
    "protocol": Loader(
        "p.yaml",
        lambda p: read_protocols(p).cells("p"),
        _PROTOCOLS,
        as_yaml,
        {"method.yaml": b"{}"},
    ),
    "published figures": Loader("p.yaml", load_published, _PUBLISHED, as_yaml),
    "class list": Loader("classes.json", Vocabulary.load, _CLASSES),
    "classes of a folder": Loader(
        "classes.json",
        lambda p: register_semantic_folder(p.parent),
        _CLASSES,
        beside={"images/a.png": b""},
    ),
    "metadata": Loader("metadata.json", lambda p: load_texture_json(p, p.parent), _METADATA),
    "structure": Loader(
        "s.json",
        lambda p: read_structure(str(p), key="K", folder=p.parent / "none"),
        {"a": [1, {"b": "c"}]},
    ),
    "word tokenizer": Loader(
        "t.json", lambda p: WordTokenizer.load(p, "K"), {"buckets": 3, "words": ["a", "b"]}
    ),
    "COCO": Loader(
        "annotations/instances_train.json", lambda p: list(read_coco(p.parents[1])), _COCO
    ),
    "CVAT, JSON": Loader("a.json", _items(read_cvat_export), _COCO),
    "CVAT, XML": Loader("a.xml", _items(read_cvat_export)),
    "CVAT, zip": Loader("a.zip", _items(read_cvat_export)),
    "Label Studio": Loader(
        "tasks-00000.json", lambda p: list(read_label_studio(p.parent)), [_TASK]
    ),
    "Label Studio, export": Loader("export.json", _items(read_label_studio_json), [_TASK]),
    "FiftyOne": Loader(
        "names.jsonl",
        lambda p: list(read_fiftyone(p.parent)),
        [
            {
                "stem": "a",
                "image": "a.png",
                "item_id": "a",
                "descriptions": ["x"],
                "split": "",
                "more": {},
            }
        ],
        as_lines,
        refuses="does not exist",  # the image
    ),
    "index of a benchmark": Loader("benchmark-p.json", read_cells, _INDEX),
    "index, replaced": Loader(
        "benchmark-p.json", lambda p: write_index(p.parent, Request("a", "p"), [], []), _INDEX
    ),
    "summary": Loader("summary.json", lambda p: read_summary(p, "rwtd"), _SUMMARY),
    "records": Loader(
        "records.jsonl",
        lambda p: [*map(str, read_lines(p, problem_of=record_problem).damaged)],
        _RECORDS,
        as_lines,
    ),
    "summary for words": Loader("summary.json", lambda p: image._read_summary(p, False), _SUMMARY),
    "failure of a job": Loader("failure.json", lambda p: read_failure(p.parent), {"note": "n"}),
    "manifest": Loader("checkpoints.json", _checkpoints, {"model_1.pth": ["0" * 64]}),
    "pointer": Loader("last_checkpoint", lambda p: find_checkpoint(p.parent)),
    "metrics": Loader(
        "metrics.json", lambda p: trim_metrics(p, 5), [{"iteration": 1, "loss": 0.5}], as_lines
    ),
    "recipe": Loader("recipe.json", lambda p: keep_to(p.parent, {"seed": 1}), {"seed": 1}),
    "journal": Loader("j.jsonl", _journal, [_RECORD], as_sealed),
    "picks": Loader("picked_image_names.txt", read_picks),
    "classes of a mined folder": Loader(
        "classes.json",
        lambda p: Folder(str(p.parent)).class_names,
        {"1": "sky"},
        beside={"images/a.png": b"", "labels/a.png": b""},
    ),
    "panoptic": Loader(
        "annotations/panoptic_val2017.json", _coco_source, _PANOPTIC, beside={"val2017/a.jpg": b""}
    ),
    "SA-1B": Loader("sa_1.json", _sa1b, _SA1B, beside={"sa_1.jpg": b""}),
    "SA-1B, shard": Loader("sa_1.tar", _sa1b),
    "names of ADE20K": Loader("objectInfo150.txt", lambda p: read_object_info(p.parent)),
    "BSDS500": Loader("a.mat", lambda p: read_segmentations(p, 1 << 20)),
    "Matlab": Loader("a.mat", lambda p: read_mat(p, "LabelMap")),
    "DDS": Loader("a.dds", lambda p: read_dds(p.read_bytes(), str(p), 1 << 20)),
    "copyright of a package": Loader("copyright", read_copyright),
    "PASCAL in Detail": Loader("trainval_merged.json", _pascal, _DETAIL),
    "weights": Loader("model.safetensors", read_weights),
    "header of weights": Loader("model.safetensors", read_header),
    "weights, verified": Loader("model.safetensors", verify_content),
    "torch file": Loader("model.pth", read_torch_file),
    "torch file, checksums": Loader("model.pth", verify_checksums),
    "torch file, Detectron2": Loader("model.pth", _lite),
    "torch file, Meta": Loader("model.pt", lambda p: read_meta_file(str(p), key="K", origin="x")),
    "safetensors, Meta": Loader(
        "model.safetensors", lambda p: read_meta_file(str(p), key="K", origin="x")
    ),
    "torch file, published": Loader("best.pt", read_published),
}
