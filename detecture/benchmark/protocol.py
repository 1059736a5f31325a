"""Which methods run on which data sets, in which variants, and what each may know, from a file.

`configs/benchmark.yaml` and `benchmark_semantic.yaml` hold it as data; their first lines describe
the form.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detecture.benchmark.results import K_ACCESS, SEMANTIC, require_tabled
from detecture.d2 import MetadataCatalog
from detecture.data import require_registered
from detecture.data.datasets.semantic import is_semantic
from detecture.data.k_hint import FROM_TRUTH, K_OF_REGIME
from detecture.errors import ConfigError, brief
from detecture.untrusted import read_yaml

_SUBJECT = "{subject}"
_ALL = "all"
_SHOWN = 200  # letters shown of unknown names
_VOCABULARY = "TEST.SEMANTIC.VOCABULARY"
# Set by the cell itself.
_OWN_KEYS = ("DATASETS.TEST", "OUTPUT_DIR", "TEST.COUNT", "TEST.LIMIT")
# Names become folders.
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Method:
    """A method and its variants.

    Attributes:
        name: in the protocol file.
        label: for tables.
        config: yaml of the method.
        random_config: the same method at tiny size with random weights; None if it has none.
        variants: config overrides of each, by name; texts may hold `{subject}`.
        weights: MODEL.WEIGHTS of `config`, unless a setting says otherwise.
    """

    name: str
    label: str
    config: Path
    random_config: Path | None
    variants: Mapping[str, Mapping[str, Any]]
    weights: str = ""


@dataclass(frozen=True)
class MethodEntry:
    """How a method takes part in a regime or on one data set.

    Attributes:
        variants: names; if there are several, the best one is reported by name.
        k_access: a key of `K_ACCESS`, or `SEMANTIC`.
    """

    variants: tuple[str, ...]
    k_access: str


@dataclass(frozen=True)
class Protocol:
    """A named set of entries.

    Attributes:
        name: in the protocol file.
        note: what it is for.
        datasets: registered names, in the order of the tables.
        entries: by the method's name, then by a data set's name, a regime, or `SEMANTIC`.
    """

    name: str
    note: str
    datasets: tuple[str, ...]
    entries: Mapping[str, Mapping[str, MethodEntry]]


@dataclass(frozen=True)
class Cell:
    """One variant of a method on one data set.

    Attributes:
        method: of the protocol file.
        variant: its name.
        dataset: registered name.
        k_access: a key of `K_ACCESS`, or `SEMANTIC`.
        random_weights: run the tiny config with random weights.
        limit: number of images; 0: all.
        settings: further config overrides, such as where weights are.
    """

    method: Method
    variant: str
    dataset: str
    k_access: str
    random_weights: bool = False
    limit: int = 0
    settings: tuple[str, ...] = ()

    @property
    def config(self) -> Path:
        """The yaml that is run."""
        if self.random_weights and self.method.random_config is not None:
            return self.method.random_config
        return self.method.config

    def overrides(self) -> list[str]:
        """Config overrides: its settings, the variant's, what it may know about K, the images."""
        subject = MetadataCatalog.get(self.dataset).get("subject", "")
        weights = "" if self.random_weights else self.method.weights
        words = [*(("MODEL.WEIGHTS", weights) if weights else ()), *self.settings]
        for key, value in self.method.variants[self.variant].items():
            words += [key, repr(_filled(value, subject))]
        words += ["DATASETS.TEST", repr((self.dataset,))]
        if self.k_access != SEMANTIC:
            words += ["TEST.COUNT", K_ACCESS[self.k_access]]
        return [*words, "TEST.LIMIT", str(self.limit)]

    def folder(self, root: Path) -> Path:
        """Folder of the evaluation; shared by all protocols that ask for the same."""
        method = f"{self.method.name}-random" if self.random_weights else self.method.name
        dataset = f"{self.dataset}-first-{self.limit}" if self.limit else self.dataset
        return root / "cells" / method / self.variant / f"{dataset}-{self.k_access}"


@dataclass(frozen=True)
class ProtocolFile:
    """Everything in a protocol file.

    Attributes:
        path: of the file.
        methods: by name, in the order of the tables.
        protocols: by name.
    """

    path: Path
    methods: Mapping[str, Method]
    protocols: Mapping[str, Protocol]

    def cells(
        self,
        protocol: str,
        methods: Iterable[str] = (),
        datasets: Iterable[str] = (),
        *,
        random_weights: bool = False,
        limit: int = 0,
        settings: Sequence[Sequence[str]] = (),
    ) -> list[Cell]:
        """The cells of a protocol, method by method.

        Args:
            protocol: its name.
            methods: only these; empty: all that the protocol has.
            datasets: only these, registered names; empty: those of the protocol.
            random_weights: use the tiny config of every method that has one.
            limit: number of images of each data set; 0: all.
            settings: config overrides: a method's name or `all`, key and value of each.

        Raises:
            ConfigError: a name is unknown, a variant needs a subject that a data set does not have,
                or the data sets are of two kinds, or of a kind that the tables have no columns for.
            DatasetError: a data set is not registered.
        """
        plan = _one_of(self.path, "protocol", protocol, self.protocols)
        chosen = list(dict.fromkeys(methods)) or list(plan.entries)
        for name in chosen:
            _one_of(self.path, f"method of protocol {protocol!r}", name, plan.entries)
        names = list(dict.fromkeys(datasets)) or list(plan.datasets)
        for name in names:
            require_registered(name)
        require_tabled(names)
        semantic = [name for name in names if is_semantic(name)]
        if semantic and len(semantic) < len(names):
            raise ConfigError(
                f"{self.path}: {', '.join(semantic)}: classes are asked for by name there, and not "
                "on the other data sets; give --datasets of one kind"
            )
        for name, key, _ in settings:
            _one_of(self.path, "method of a setting", name, dict.fromkeys([_ALL, *chosen]))
            _check_key(self.path, "a setting", key)
        cells = [
            Cell(method, variant, dataset, entry.k_access, tiny, limit, own)
            for method in self.methods.values()
            if method.name in chosen
            for tiny in [random_weights and method.random_config is not None]
            for own in [_settings_of(method.name, settings)]
            for dataset in names
            for entry in [_entry_for(plan.entries[method.name], dataset)]
            if entry is not None
            for variant in entry.variants
            if _fits(self.path, method, variant, dataset)
        ]
        if not cells:
            raise ConfigError(
                f"{self.path}: protocol {protocol!r} has no cell for {', '.join(chosen)} on "
                f"{', '.join(names) or 'no data set'}; {_remedy(plan, chosen, bool(semantic))}"
            )
        return cells


def read_protocols(path: Path) -> ProtocolFile:
    """Read and check a protocol file.

    Raises:
        ConfigError: it cannot be read or is wrong; names the wrong key and what it may be.
    """
    content = read_yaml(path, ConfigError)
    sections = _mapping(path, "the file", content, {"methods", "protocols"}, set())
    methods = {
        str(name): _method(path, str(name), value)
        for name, value in _mapping(path, "methods", sections["methods"]).items()
    }
    protocols = {
        str(name): _protocol(path, str(name), value, methods)
        for name, value in _mapping(path, "protocols", sections["protocols"]).items()
    }
    return ProtocolFile(path, methods, protocols)


def _method(path: Path, name: str, value: Any) -> Method:
    where = f"methods.{name}"
    _check_name(path, "methods", name)
    allowed = {"random_config", "variants", "weights"}
    found = _mapping(path, where, value, {"label", "config"}, allowed)
    variants = _mapping(path, f"{where}.variants", found.get("variants", {"default": {}}))
    settings = {}
    for key, one in variants.items():
        _check_name(path, f"{where}.variants", key)
        settings[key] = _mapping(path, f"{where}.variants.{key}", one)
        for override in settings[key]:
            _check_key(path, f"{where}.variants.{key}", override)
    random_config = found.get("random_config")
    return Method(
        name,
        _text(path, f"{where}.label", found["label"]),
        _file(path, f"{where}.config", found["config"]),
        None if random_config is None else _file(path, f"{where}.random_config", random_config),
        settings,
        _text(path, f"{where}.weights", found["weights"]) if "weights" in found else "",
    )


def _protocol(path: Path, name: str, value: Any, methods: Mapping[str, Method]) -> Protocol:
    where = f"protocols.{name}"
    _check_name(path, "protocols", name)
    found = _mapping(path, where, value, {"note", "datasets", "leaks", "methods"}, set())
    leaks = found["leaks"]
    if not isinstance(leaks, bool):
        raise ConfigError(f"{path}: {where}.leaks must be true or false, not {brief(leaks)}")
    datasets = _list_of_names(path, f"{where}.datasets", found["datasets"])
    entries: dict[str, dict[str, MethodEntry]] = {}
    for method, by_place in _mapping(path, f"{where}.methods", found["methods"]).items():
        known = _one_of(path, f"method in {where}", method, methods)
        places = _mapping(path, f"{where}.methods.{method}", by_place)
        known_places = dict.fromkeys([*K_OF_REGIME, *datasets, SEMANTIC])
        for place in places:
            _one_of(path, f"data set or regime in {where}.methods.{method}", place, known_places)
        entries[method] = {
            place: _entry(path, f"{where}.methods.{method}.{place}", one, known, place, leaks)
            for place, one in places.items()
        }
    return Protocol(name, _text(path, f"{where}.note", found["note"]), tuple(datasets), entries)


def _entry(
    path: Path, where: str, value: Any, method: Method, place: str, leaks: bool
) -> MethodEntry:
    by_name = place == SEMANTIC or (place not in K_OF_REGIME and is_semantic(place))
    found = _mapping(path, where, value, {"variants"} if by_name else {"variants", "k"}, set())
    variants = _list_of_names(path, f"{where}.variants", found["variants"])
    if not variants:
        raise ConfigError(f"{path}: {where}.variants is empty; name at least one")
    for variant in variants:
        _one_of(path, f"variant of {method.name} in {where}", variant, method.variants)
    if by_name:
        oracles = [v for v in variants if method.variants[v].get(_VOCABULARY) == "per_image"]
        if oracles and not leaks:
            raise ConfigError(
                f"{path}: {where}: variant {oracles[0]} asks each image only for the classes that "
                "it has, which is the truth; the protocol says `leaks: false`"
            )
        return MethodEntry(tuple(variants), SEMANTIC)
    access = found["k"]
    _one_of(path, f"{where}.k", access, K_ACCESS)
    if K_ACCESS[access] in FROM_TRUTH and not leaks:
        raise ConfigError(
            f"{path}: {where}.k is {access}, which tells a method the true number of regions of "
            "each image; the protocol says `leaks: false`"
        )
    return MethodEntry(tuple(variants), access)


def _settings_of(method: str, settings: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(word for name, *pair in settings if name in (_ALL, method) for word in pair)


def _list_of_names(path: Path, where: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"{path}: {where} must be a list of names, not {brief(value)}")
    if twice := [one for one in value if value.count(one) > 1]:
        raise ConfigError(f"{path}: {where} has {brief(twice[0])} twice; remove one")
    return value


def _entry_for(entries: Mapping[str, MethodEntry], dataset: str) -> MethodEntry | None:
    """The entry of the data set, else of its regime; None: the method does not take part."""
    place = SEMANTIC if is_semantic(dataset) else MetadataCatalog.get(dataset).get("k_regime")
    return entries.get(dataset, entries.get(place))


def _remedy(plan: Protocol, methods: Iterable[str], semantic: bool) -> str:
    """What to do if no method runs on a data set."""
    if semantic:
        return (
            f"it is of classes by name: give the method an entry `{SEMANTIC}`, as those of "
            "configs/benchmark_semantic.yaml have"
        )
    if any(SEMANTIC in plan.entries[name] for name in methods):
        return "these methods are asked for classes by name: give sets of semantic segmentation"
    return "give the method an entry for its regime"


def _fits(path: Path, method: Method, variant: str, dataset: str) -> bool:
    needs = any(_SUBJECT in repr(value) for value in method.variants[variant].values())
    if needs and not MetadataCatalog.get(dataset).get("subject", ""):
        raise ConfigError(
            f"{path}: variant {variant} of {method.name} names the subject of a data set, and "
            f"{dataset} has none; register it with `subject`, or give it an entry of its own"
        )
    return True


def _check_name(path: Path, where: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: {where}: {brief(name)} is no name; use letters, digits, `_`, `-` and `.`"
        )


def _check_key(path: Path, where: str, key: str) -> None:
    if key in _OWN_KEYS:
        raise ConfigError(f"{path}: {where} sets {key}, which every cell sets by itself")


def _filled(value: Any, subject: str) -> Any:
    if isinstance(value, str):
        return value.replace(_SUBJECT, subject)
    if isinstance(value, (list, tuple)):
        return tuple(_filled(one, subject) for one in value)
    return value


def _mapping(
    path: Path,
    where: str,
    value: Any,
    due: set[str] | None = None,
    allowed: set[str] | None = None,
) -> dict[str, Any]:
    """A mapping with text keys: all of `due`, and otherwise only `allowed`; None: any."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(
            f"{path}: {where} must be a mapping with names as keys, not {brief(value)}"
        )
    if due is not None:
        missing, unknown = due - set(value), set(value) - due - (allowed or set())
        if missing or unknown:
            faults = [f"lacks {', '.join(sorted(missing))}"] if missing else []
            faults += [f"has unknown {', '.join(sorted(unknown))[:_SHOWN]}"] if unknown else []
            raise ConfigError(f"{path}: {where} {' and '.join(faults)}")
    return value


def _one_of(path: Path, what: str, name: Any, known: Mapping[str, Any]) -> Any:
    names = ", ".join(known) or "none: there is none"
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{path}: {what} {brief(name)} is unknown; use one of {names}")
    return known[name]


def _text(path: Path, where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{path}: {where} must be a text, not {brief(value)}")
    return value


def _file(path: Path, where: str, value: Any) -> Path:
    file = path.parent / _text(path, where, value)
    try:
        is_there = file.is_file()
    except (OSError, ValueError):  # not a possible file name
        is_there = False
    if not is_there:
        raise ConfigError(f"{path}: {where} names {str(file)[:300]}, which does not exist")
    return file
