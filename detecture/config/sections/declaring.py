"""How config keys are declared: once, as the fields of a dataclass for each section.

    @section("MODEL.REFINEMENT", "Refinement of the masks on the pixel embeddings.")
    @dataclass(frozen=True, kw_only=True)
    class RefinementSettings(Settings):
        steps: int = key(0, "Steps of a mixture; 0: none.", least=0)

declares the key MODEL.REFINEMENT.STEPS with its default, its range and its meaning. The same class
is what parts of the program take: `RefinementSettings.from_config(cfg)`, or, without a config,
`RefinementSettings(steps=3)`; both refuse values out of range.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

from detecture.d2 import CfgNode
from detecture.errors import ConfigError, brief

_KEY, _NESTED = "key", "nested"

SECTIONS: dict[str, type["Settings"]] = {}
"""Dotted name of each section, such as `MODEL.VLM`, to its class, in the order of declaration."""


@dataclass(frozen=True)
class Declaration:
    """What is declared of a key besides its default.

    Attributes:
        meaning: one or two sentences.
        least: the least value; of a sequence, of each item.
        above: values must be greater than this.
        greatest: the greatest value.
        choices: the words that it knows; any, where empty.
    """

    meaning: str
    least: float | None = None
    above: float | None = None
    greatest: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that no part of the program can work with.

        Args:
            name: of the key, for the error.
            value: a number, a word, or a sequence of them.

        Raises:
            ConfigError: names the key and what it may be.
        """
        if self.choices:
            self._check_word(name, value)
        elif self.least is not None or self.above is not None or self.greatest is not None:
            if isinstance(value, (tuple, list)) and not value:
                raise ConfigError(f"{name} is empty; it needs one value or more")
            for item in value if isinstance(value, (tuple, list)) else (value,):
                self._check_number(name, item)

    def bounds(self) -> str:
        """Its range or words, as text; empty where there is none."""
        if self.choices:
            return ", ".join(f"`{word}`" for word in self.choices)
        parts = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", self.least), (">", self.above), ("<=", self.greatest))
            if bound is not None
        ]
        return ", ".join(parts)

    def _check_word(self, name: str, value: Any) -> None:
        if value in self.choices:
            return
        hint = did_you_mean(str(value), list(self.choices))
        raise ConfigError(f"{name} is {brief(value)}; use one of {', '.join(self.choices)}{hint}")

    def _check_number(self, name: str, value: Any) -> None:
        if self.least is not None and not value >= self.least:  # NaN is refused too
            raise ConfigError(f"{name} is {brief(value)}; it must be at least {self.least:g}")
        if self.above is not None and not value > self.above:
            raise ConfigError(f"{name} is {brief(value)}; it must be above {self.above:g}")
        if self.greatest is not None and not value <= self.greatest:
            raise ConfigError(f"{name} is {brief(value)}; it must be at most {self.greatest:g}")
        if isinstance(value, float) and math.isinf(value):
            raise ConfigError(f"{name} is {value}; it must be a finite number")


def key(
    default: Any,
    meaning: str,
    *,
    least: float | None = None,
    above: float | None = None,
    greatest: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a section: one config key, named like the field in capitals.

    Args:
        default: its value where nothing sets it.
        meaning, least, above, greatest, choices: see `Declaration`.
    """
    declared = Declaration(meaning, least, above, greatest, choices)
    return dataclasses.field(default=default, metadata={_KEY: declared})


def nested(kind: type["Settings"]) -> Any:
    """A field of a section that is a section of its own, with its defaults."""
    return dataclasses.field(default_factory=kind, metadata={_NESTED: kind})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of a section; see the top of this file."""

    PATH: ClassVar[str] = ""
    MEANING: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, value, declared in self._keys():
            declared.check(f"{self.PATH}.{name}" if self.PATH else name, value)
        self.check()

    def check(self) -> None:
        """Refuse values that do not go together.

        Raises:
            ConfigError: names the keys.
        """

    @classmethod
    def declarations(cls) -> Iterator[tuple[str, Any, Declaration]]:
        """Name in capitals, default and declaration of each key of this section."""
        for field in dataclasses.fields(cls):
            if _KEY in field.metadata:
                yield field.name.upper(), field.default, field.metadata[_KEY]

    @classmethod
    def choices_of(cls, name: str) -> tuple[str, ...]:
        """The words that the key of a field knows."""
        return next(d.choices for key, _, d in cls.declarations() if key == name.upper())

    @classmethod
    def from_config(cls: type["AnySettings"], cfg: CfgNode) -> "AnySettings":
        """The values of a config.

        Raises:
            ConfigError: one is out of its range.
        """
        node: Any = cfg
        for part in cls.PATH.split("."):
            node = node[part]
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if _NESTED in field.metadata:
                values[field.name] = field.metadata[_NESTED].from_config(cfg)
            elif _KEY in field.metadata:
                value = node[field.name.upper()]
                values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def _keys(self) -> Iterator[tuple[str, Any, Declaration]]:
        for name, _, declared in self.declarations():
            yield name, getattr(self, name.lower()), declared


AnySettings = TypeVar("AnySettings", bound=Settings)


def section(path: str, meaning: str) -> Callable[[type[AnySettings]], type[AnySettings]]:
    """Declares a dataclass to be the section `path` of the config.

    Args:
        path: dotted, such as `MODEL.VLM`.
        meaning: what the section is about, a sentence.
    """

    def declare(kind: type[AnySettings]) -> type[AnySettings]:
        if path in SECTIONS:
            raise ValueError(f"{path} is declared twice")
        kind.PATH, kind.MEANING = path, meaning
        SECTIONS[path] = kind
        return kind

    return declare


def add_sections(cfg: CfgNode) -> None:
    """Add every declared key, with its default, to a config (in place)."""
    for path, kind in SECTIONS.items():
        node = cfg
        for part in path.split("."):
            if part not in node:
                node[part] = CfgNode()
            node = cast(CfgNode, node[part])
        for name, default, _ in kind.declarations():
            node[name] = default


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """ "; did you mean X?" where a candidate is near, else nothing.

    The last part of a dotted key, or of a name such as `texture/mIoU`, must be near by itself: the
    section that many have in common makes none of them near.
    """
    known = list(candidates)
    last = _last_part(word[:200])
    near = [
        one
        for one in difflib.get_close_matches(word[:200], known, n=10)
        if difflib.get_close_matches(last, [_last_part(one)])
    ]
    # Else a right name in a wrong or missing section.
    near = near or [one for one in known if _last_part(one) == last]
    return f"; did you mean {near[0]}?" if near else ""


def _last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1].lower()
