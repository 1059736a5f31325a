"""How input is written: as it is, with another layout, altered, damaged, or as an odd file."""

import json
import os
import re

import yaml

from tests.fuzz.mutators import MARK, altered, damaged

_DEEP = re.compile('"?' + MARK.replace("{}", r"(\d+)") + '"?')


def nested(text, brackets="[]"):
    """A text with what its marks stand for in their places."""
    opening, closing = brackets if len(brackets) == 2 else ('{"a":', "}")
    filling = "" if opening == "[" else "1"
    return _DEEP.sub(lambda f: opening * int(f[1]) + filling + closing * int(f[1]), text)


def json_bytes(case, tree):
    """The JSON of a tree in one of many layouts, all of them valid where the tree is."""
    text = json.dumps(
        tree,
        ensure_ascii=case.chance(0.5),
        indent=case.draw.choice((None, None, 1)),
        separators=case.draw.choice((None, (",", ":"))),
    )
    text = nested(text, case.draw.choice(("[]", "{}:")))
    return case.draw.choice((b"", b"", b"", b"\xef\xbb\xbf")) + text.encode(
        "utf-8", "surrogatepass"
    )


def yaml_bytes(case, tree):
    """Likewise, as yaml; what yaml cannot write is left to JSON, which is yaml too."""
    try:
        text = yaml.safe_dump(
            tree,
            sort_keys=False,
            allow_unicode=case.chance(0.5),
            default_flow_style=case.draw.choice((True, False)),
        )
    except (yaml.YAMLError, RecursionError):
        return json_bytes(case, tree)
    return nested(text).encode("utf-8", "surrogatepass")


def yaml_tricks(case, data):
    """Yaml's own kinds of damage: aliases that grow, tags, merges, keys twice, documents."""
    rows = [b"b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    rows += [
        b"b%d: &b%d [%s]" % (n, n, b", ".join([b"*b%d" % (n - 1)] * 9))
        for n in range(1, case.draw.choice((3, 9)))
    ]
    tricks = [
        b"\n".join(rows) + b"\n",
        b"loop: &l [*l]\n",
        b"self: &s {a: *s}\n",
        b"? [a, b]\n: 1\n",
        b"1: a\n",
        b"~: a\n",
        b"<<: {a: 1}\n",
        b"<<: 3\n",
        b"run: !!python/object/apply:os.system ['true']\n",
        b"run: !!python/name:os.system\n",
        b"bin: !!binary gA==\n",
        b"set: !!set {a, b}\n",
        b"pairs: !!pairs [a: 1]\n",
        b"omap: !!omap 3\n",
        b"date: !!timestamp 0000-00-00\n",
        b"i: !!int ''\n",
        b"i: !!int 0x\n",
        b"f: !!float x\n",
        b"i: 1:99:99\n",
        b"f: .nan\n",
        b"n: " + b"9" * 6000 + b"\n",
        b"b: !!bool 3\n",
        b"m: !!map [1]\n",
        b"---\na: 1\n---\nb: 2\n",
        b"%YAML 9.9\n---\n",
        b"a:\tb\n",
        b"\x85",
        b"a: |\n  x\n b\n",
        b"deep: " + b"[" * 3000 + b"\n",
        b"- a\n",
        data[: data.find(b"\n") + 1],
    ]
    trick = case.draw.choice(tricks)
    return case.draw.choice((data + trick, trick + data))


def write(case, path, data):
    """Write bytes, or rarely something that is no file; returns whether they are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if case.chance(0.97):
        path.write_bytes(data)
        return True
    odd = case.draw.randrange(9)
    if odd == 0:
        path.mkdir()
    elif odd == 1:
        path.symlink_to(path)
    elif odd == 2:
        path.symlink_to(path.with_name("nothing here"))
    elif odd == 3:
        path.symlink_to("/dev/zero")
    elif odd == 4:
        os.mkfifo(path)
    elif odd == 5:
        path.touch()
    elif odd == 6:
        path.symlink_to("/dev/null")
    elif odd == 7:
        path.write_bytes(b"\0" * 5000)
    return False


def write_json(case, path, tree):
    """Write a tree as JSON, in most cases altered or damaged; returns whether it is valid."""
    return _write_tree(case, path, tree, json_bytes)


def write_yaml(case, path, tree):
    """Likewise, as yaml."""
    return _write_tree(case, path, tree, yaml_bytes)


def _write_tree(case, path, tree, to_bytes):
    kind = case.draw.random()
    if kind < 0.12:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_bytes(case, tree))
        return True
    if kind < 0.72:
        write(case, path, to_bytes(case, altered(case.draw, tree)))
    elif to_bytes is yaml_bytes and kind < 0.86:
        write(case, path, yaml_tricks(case, to_bytes(case, tree)))
    else:
        write(case, path, damaged(case.draw, to_bytes(case, tree)))
    return False


def write_bytes(case, path, data):
    """Write bytes, in most cases damaged; returns whether they are as they were."""
    if case.chance(0.12):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True
    write(case, path, damaged(case.draw, data))
    return False


def read_back(path):
    """The content of a JSON file as the json module has it; None where it has none."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
