"""The wording of a checkpoint, from the release's source, of which nothing is run."""

import os

import pytest

from detecture.conversion.wording import MOST_SOURCE_BYTES, load_wording
from detecture.data.prompts import DEFAULT_PROMPTS
from detecture.errors import ConfigError

SOURCE = """
import os
os.mkdir("PROOF")
N = 3
class Prompts:
    SYSTEM_PROMPT = ("Answer "
                     "shortly.")
    HEAD: str = "Count COUNT, as {{x}}.\\n"
    USER = HEAD + "TEXTURE_1: Texture of <description> <|seg|>"
LINE = "TEXTURE_{i}: Texture of {text} <|seg|>"
JOINER = "\\n"
OTHER = f"{N} <|seg|>"
"""


@pytest.mark.parametrize("count", ["{N}", "{n}", "{}", "between 1 and 6"])
def test_wording_is_read_from_a_source_that_is_not_run(tmp_path, count):
    path, proof = tmp_path / "dataset.py", tmp_path / "proof"
    path.write_text(SOURCE.replace("PROOF", str(proof)).replace("COUNT", count))
    prompts = load_wording(path)
    assert not proof.exists()
    exec(compile(path.read_text(), "dataset.py", "exec"), {})
    assert proof.exists()  # it would have
    assert prompts.system == "Answer shortly."
    # Braces are doubled only where the text was made for str.format.
    x = "{x}" if count in ("{n}", "{}") else "{{x}}"
    assert prompts.user == f"Count {{N}}, as {x}.\nTEXTURE_1: Texture of <description> <|seg|>"
    assert prompts.line == DEFAULT_PROMPTS.line
    assert (prompts.joiner, prompts.seg_token) == ("\n", "<|seg|>")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("SYSTEM_PROMPT", "MESSAGE"), "system text"),
        (("COUNT", "three"), "user text"),
        (("USER = HEAD", "USER = f'{N}'"), "user text"),
        (("LINE = ", "LINE = f"), "line format"),
        (("{text}", "text"), "line format"),
        (("JOINER", "BETWEEN"), "joiner"),
    ],
)
def test_a_missing_constant_is_named(tmp_path, change, word):
    path = tmp_path / "dataset.py"
    path.write_text(SOURCE.replace(*change).replace("COUNT", "{N}"))
    with pytest.raises(ConfigError, match=f"no constant for the {word}") as error:
        load_wording(path)
    assert str(error.value).count("no constant") == 1
    assert "Write a yaml" in str(error.value) and "assistant_line" in str(error.value)


def test_two_candidates_and_bad_sources_are_refused(tmp_path):
    path = tmp_path / "dataset.py"
    path.write_text(SOURCE.replace("COUNT", "{N}") + "\nOLD_SYSTEM = 'Other.'\n")
    with pytest.raises(ConfigError, match="several for the system text"):
        load_wording(path)
    for content in (b"def", b"\x00", b"\xff\xfe", b"x = 1"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="--prompts"):
            load_wording(path)
    for name in ("nothing.py", "nothing.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_wording(tmp_path / name)


def test_a_source_has_a_bound_and_is_not_waited_for(tmp_path):
    """A pipe, and a link to a device that never ends."""
    pipe, endless, large = (tmp_path / name for name in ("pipe.py", "endless.py", "large.py"))
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    large.write_bytes(b"\n" * (MOST_SOURCE_BYTES + 1))
    for path, text in ((pipe, "no regular file"), (endless, "no regular file"), (large, "larger")):
        with pytest.raises(ConfigError, match=text):
            load_wording(path)
