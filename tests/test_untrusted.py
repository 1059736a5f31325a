"""The one place that parses yaml and JSON: what is refused, in time, and with which words."""

import json
import tracemalloc

import pytest

from detecture.errors import ConfigError, DatasetError
from detecture.untrusted import (
    open_file,
    parse_json,
    parse_own_json,
    parse_yaml,
    read_at_most,
    read_json,
    read_own_json,
    read_yaml,
)
from detecture.untrusted_plain import MOST_DEPTH

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

YAML = [
    ("a: !!python/object/apply:os.system [ls]", "Python object or call"),
    ("a: !!python/name:os.system", "Python object or call"),
    ('a: !!int ""', "line 1: .. is no .!!int."),
    ("a: !!bool maybe", "cannot be read as yaml"),
    ("a: !!float x", "cannot be read as yaml"),
    ("a: !!timestamp 2024-01-01", "of type date"),
    ("a: !!timestamp nonsense", "line 1: .nonsense. is no .!!timestamp.; correct it, or remove"),
    ("a: !!map [1]", "cannot be read as yaml"),
    ("a: !!set {1, 2}", "of type set"),
    ("a: !!binary aGFsbG8=", "of type bytes"),
    ("a: !!omap [b: 1]", "of type tuple"),
    ("{[]: 1}", "a key must be a word, not a list or a table .line 1."),
    ("1: a", "of type int; write it in quotes"),
    ("yes: a", "of type bool; write it in quotes"),
    ("a: .nan", "holds NaN or Infinity"),
    ("a: .inf", "holds NaN or Infinity"),
    (f"a: {'9' * 5000}", "number of 5000 digits"),
    ("a: 1\nb: {c: 1, c: 2}", "'c' stands twice .line 2."),
    ("[" * 3000 + "]" * 3000, "levels deep"),
    ("&a [*a]", "inside what it refers to"),
    ("a: &x\n  b: *x", "inside what it refers to"),
    (BOMB, "expand to more than"),
    ("[" + "1," * 50_000 + "]", "holds more than 50,000 values"),
    ("a: &a x\nb: [" + "*a," * 200 + "]", "more than 100 aliases"),
    ("a: [1\nb: 2", "cannot be read as yaml"),
    ("a: b: c", "cannot be read as yaml"),
    ("--- 1\n--- 2", "cannot be read as yaml"),
    ("a: *nobody", "cannot be read as yaml"),
    ('a: "\\ud800"', "half a character|cannot be read"),
    ("\x00", "cannot be read as yaml"),
]


@pytest.mark.parametrize(("text", "message"), YAML, ids=range(len(YAML)))
def test_yaml_that_is_refused(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text, "a.yaml", ConfigError)
    assert str(caught.value).startswith("a.yaml: ") and len(str(caught.value)) < 600


def test_yaml_that_is_plain():
    text = "a: &x {b: [1, 2.5, -3, true, null, text]}\nc: *x\nd: 2024-01-01\ne: {<<: *x, f: 1e-4}\n"
    inner = {"b": [1, 2.5, -3, True, None, "text"]}
    assert parse_yaml(text, "", ConfigError) == {
        "a": inner,
        "c": inner,
        "d": "2024-01-01",  # a name, far more often than a date
        "e": {**inner, "f": "1e-4"},
    }
    assert parse_yaml("", "", ConfigError) is None


JSON = [
    ("", "cannot be read as JSON"),
    ("{", "cannot be read as JSON"),
    ("[1] 2", "cannot be read as JSON"),
    ("[" * 100_000, "levels deep|cannot be read as JSON"),
    ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "levels deep"),
    ('{"a": ' * 90 + "1" + "}" * 90, "levels deep"),
    ('{"a": NaN}', "a: holds NaN or Infinity"),
    ('{"a": [1, -Infinity]}', r"a\[1\]: holds NaN"),
    ('{"a": ' + "9" * 6000 + "}", "a: holds a whole number of more than 400 digits"),
    ('{"a": 1e999}', "a: holds NaN or Infinity"),
    ("[" + "9" * 401 + "]", r"\[0\]: holds a whole number of more than 400 digits"),
    ('["\\ud800"]', r"\[0\]: .* half a character"),
    ('{"\\udfff": 1}', "half a character"),
]


@pytest.mark.parametrize(("text", "message"), JSON, ids=range(len(JSON)))
def test_json_that_is_refused(text, message):
    with pytest.raises(DatasetError, match=message) as caught:
        parse_json(text, "a.json", DatasetError)
    assert str(caught.value).startswith("a.json: ") and len(str(caught.value)) < 600


def test_json_that_is_plain():
    content = {"a": [1, 2.5, None, True, "Grün \U0001f600"], "b": {}, "c": 10**300}
    assert parse_json(json.dumps(content), "", DatasetError) == content
    deep = json.loads("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    assert parse_json(json.dumps(deep), "", DatasetError) == deep


def test_a_long_key_with_many_values_costs_no_memory():
    text = json.dumps({"k" * 20_000: [{"k": 1}] * 2_000})
    tracemalloc.start()
    parse_json(text, "", DatasetError)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


FILES = [
    ("é".encode("latin-1"), r"no UTF-8 \(byte 0 is 0xe9\), perhaps Latin-1\); save it as UTF-8"),
    ("a: 1".encode("utf-16"), r"is UTF-16\); save it as UTF-8"),
    (b"\x89PNG\x00\x00\xff", "is no text"),
    (b" " * 2000, "larger than 1,000 bytes; is it the right file"),
]


@pytest.mark.parametrize(("content", "message"), FILES, ids=range(len(FILES)))
@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_files_that_are_refused(tmp_path, read, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read(path, ConfigError, 1000)


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_what_is_no_file(tmp_path, read):
    for path, message in (
        (tmp_path / "none", r"none: cannot be read \(no such file\)"),
        (tmp_path, "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
        (tmp_path / ("x" * 3000), "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            read(path, ConfigError)
        assert len(str(caught.value)) < 500


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a", ConfigError) == read_yaml(tmp_path / "a", ConfigError)
    assert read_own_json(tmp_path / "a") == {"a": 1}


OWN = [
    (b"", "Expecting value"),
    (b'{"a": 1', "delimiter"),
    (b"[1] 2", "Extra data"),
    (b"\xff", "it is no UTF-8"),
    ("[1]".encode("utf-16"), "it is UTF-16"),
    (b"[" * 100_000, "nested too deeply"),
    (b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1), "nested too deeply"),
    (b" " * 100_001, "larger than 100,000 bytes"),
]


@pytest.mark.parametrize(("content", "message"), OWN, ids=range(len(OWN)))
def test_own_json_that_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_own_json(content, 100_000)
    assert len(str(caught.value)) < 200
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_own_json(tmp_path / "a", 100_000)


def test_own_json_holds_what_json_dumps_writes(tmp_path):
    content = {"loss": float("inf"), "name": "a\udcff", "\udcff": [1, None, True]}
    (tmp_path / "a").write_text(json.dumps(content))
    assert read_own_json(tmp_path / "a") == content == parse_own_json(json.dumps(content))
    (number,) = parse_own_json("[NaN]")
    assert number != number
    assert parse_own_json(f"[{'9' * 401}]") == [float("inf")]
    with pytest.raises(FileNotFoundError):
        read_own_json(tmp_path / "none")


def test_infinity_in_yaml_where_it_is_asked_for():
    text = "a: [.inf, .nan]"
    assert parse_yaml(text, "", ConfigError, finite=False)["a"][0] == float("inf")
    with pytest.raises(ConfigError, match=r"half a character|cannot be read"):
        parse_yaml('a: "\\ud800"', "", ConfigError, finite=False)


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_small_file_takes_no_room_for_the_largest_one(read, tmp_path):
    """The readers of large files reserved two gigabytes for each of a few lines."""
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    tracemalloc.start()
    try:
        assert read(path, ConfigError, 1 << 30) == {"a": 1}
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_what_is_read_has_a_bound(tmp_path):
    path = tmp_path / "a"
    content = bytes(range(256)) * 8192
    path.write_bytes(content)
    for most in (0, 1, 1 << 20, (1 << 20) + 1, 2 << 20, 4 << 20):
        with open_file(path) as file:
            assert read_at_most(file, most) == content[:most]
