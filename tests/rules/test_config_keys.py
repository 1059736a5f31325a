"""Every key of ours has a reader and a comment; every key that is read has a default."""

import ast
from pathlib import Path

from detecture.config import add_detecture_config
from detecture.d2 import CfgNode, get_cfg
from detecture.d2.lite import unread_keys
from detecture.d2.lite.config import get_cfg as lite_get_cfg

REPO = Path(__file__).parents[2]
CONFIG = sorted((REPO / "detecture/config").glob("*.py"))
READERS = [p for folder in ("detecture", "tools") for p in sorted((REPO / folder).rglob("*.py"))]


def leaves(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def chain(node):
    """`cfg.A.B` as ("cfg", "A", "B"); None where it does not begin with a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return (node.id, *reversed(parts))


def keys_read(path):
    """Keys that a file reads, `crop = cfg.A.B; crop.C` and `self.cfg.A` included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = {"cfg": ()}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                targets = list(zip(target.elts, value.elts, strict=True))
            else:
                targets = [(target, value)]
        for target, value in targets:
            found = chain(value)
            if isinstance(target, ast.Name) and found and "cfg" in found:
                aliases[target.id] = found[found.index("cfg") + 1 :]
    written = {id(n) for n in ast.walk(tree) if isinstance(getattr(n, "ctx", None), ast.Store)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in written:
            continue
        found = chain(node)
        if found is None:
            continue
        if found[0] in aliases:
            key = (*aliases[found[0]], *found[1:])
        elif "cfg" in found:
            key = found[found.index("cfg") + 1 :]
        else:
            continue
        upper = [part for part in key if part.isupper()]
        if upper and list(key[: len(upper)]) == upper:
            yield ".".join(upper)


def all_keys():
    cfg = get_cfg()
    add_detecture_config(cfg)
    return set(leaves(cfg))


def test_every_key_of_ours_has_a_reader():
    read = {key for path in READERS if path not in CONFIG for key in keys_read(path)}
    # The one key that the config package itself is there to resolve.
    read |= {key for path in CONFIG for key in keys_read(path)} & {"MODEL.DEVICE"}
    ours = all_keys() - set(leaves(get_cfg()))
    assert "TEST.COUNT" in ours
    assert sorted(ours - read) == []


# These wait for the mapper of the semantic data sets.
TO_BE_READ = {
    *("INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "INPUT.MAX_SIZE_TRAIN"),
    *("INPUT.RANDOM_FLIP", "TEST.AUG.ENABLED", "TEST.AUG.MIN_SIZES"),
    *("TEST.AUG.MAX_SIZE", "TEST.AUG.FLIP"),
}


def test_detectron2s_keys_without_a_reader_are_those_that_are_warned_of():
    read = {key for path in READERS for key in keys_read(path)} | {"VERSION"}  # self.VERSION
    without = {key for key, _ in unread_keys.leaves(lite_get_cfg())} - read
    assert sorted(without) == sorted({*unread_keys.UNREAD_KEYS, *TO_BE_READ})


def test_every_key_that_is_read_has_a_default():
    keys = all_keys()
    sections = {key.rsplit(".", n)[0] for key in keys for n in range(1, key.count(".") + 1)}
    unknown = {
        f"{path.relative_to(REPO)}: {key}"
        for path in READERS
        for key in keys_read(path)
        if key not in keys and key not in sections
    }
    assert sorted(unknown) == []


def test_every_key_of_ours_has_a_comment():
    bare, seen = [], 0
    for path in [path for path in CONFIG if path.stem.endswith("keys")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.Assign) or (chain(node.targets[0]) or ("",))[0] != "cfg":
                continue
            seen += 1
            is_section = lines[node.lineno - 1].rstrip().endswith("CN()")
            if not is_section and not lines[node.lineno - 2].lstrip().startswith("#"):
                bare.append(lines[node.lineno - 1].strip())
    assert bare == []
    assert seen > 20
