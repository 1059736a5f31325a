"""CLIP, what turns it, and the head of CAT-Seg: what of them trains, and what checkpoints keep.

A checkpoint has what trains and says what the rest was made of. One that CAT-Seg released has all.

Legend: C channels of the aggregation, P templates, X further costs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detecture.checkpoint.misfits import take_over
from detecture.config.sections.semantic import ClipSettings
from detecture.errors import CheckpointError, brief
from detecture.modeling.clip.class_texts import ClassTexts
from detecture.modeling.clip.encoder import ClipEncoder
from detecture.modeling.clip.orthogonal import Modulation, OrthogonalAdapter
from detecture.modeling.cost.published_names import from_published, is_published
from detecture.modeling.weights.header_check import check_header

_EMBED = "head.aggregator.embed.weight"
_OF_WIDTH = "clip.model.vision_model.embeddings.class_embedding"
_IN_CHECKPOINT = "in the checkpoint itself"


class CATSegParts(nn.Module):
    """The parts that have weights; the model that uses them is `CATSeg`."""

    texts: ClassTexts  # set by the model: it knows the tokenizer

    def __init__(
        self,
        clip: ClipEncoder,
        head: nn.Module,
        clip_source: str,
        settings: ClipSettings,
        adapter: OrthogonalAdapter | None,
    ) -> None:
        """Set what of CLIP trains; see `CATSeg`."""
        super().__init__()
        self.clip, self.head, self.adapter = clip, head, adapter
        self.clip_source, self.settings = clip_source, settings
        self._keeps_all = False
        clip.requires_grad_(False)
        for parameter in self._trained_of_clip().values():
            parameter.requires_grad_(True)
        # Detectron2's checkpointer knows `load_state_dict` alone.
        self.register_load_state_dict_pre_hook(_rename_published)

    # ---- what trains ------------------------------------------------------------------------

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with a learning rate of their own; norms apart, without decay."""
        groups, norms = [], self._without_decay()
        for name, named in self._trained_by_group().items():
            for decays in (True, False):
                chosen = {key: p for key, p in named.items() if (id(p) in norms) != decays}
                if chosen:
                    group = {"params": list(chosen.values()), "names": list(chosen)}
                    groups.append({"name": name, "decays": decays, **group})
        return groups

    def _trained_by_group(self) -> dict[str, dict[str, nn.Parameter]]:
        groups = {
            "head": dict(self.head.named_parameters(prefix="head")),
            "clip": {f"clip.{name}": p for name, p in self._trained_of_clip().items()},
        }
        if self.adapter is not None:
            groups["adapter"] = dict(self.adapter.named_parameters(prefix="adapter"))
        return groups

    def _trained_of_clip(self) -> dict[str, nn.Parameter]:
        """By their names in `clip`; CAT-Seg trains weights of queries and values, no biases."""
        kind = self.settings.finetune
        if kind == "full":
            idle = self.clip.idle_parameters()
            return {n: p for n, p in self.clip.named_parameters() if n not in idle}
        ends = ("q_proj.weight", "v_proj.weight") if kind == "attention" else ()
        return {n: p for n, p in self.clip.named_parameters() if ends and n.endswith(ends)}

    def _without_decay(self) -> set[int]:
        """Of norms, and of what says how far CLIP is turned: neither is to be drawn to zero."""
        kinds = (nn.LayerNorm, nn.GroupNorm, Modulation)
        chosen = [module for module in self.modules() if isinstance(module, kinds)]
        return {id(parameter) for module in chosen for parameter in module.parameters()}

    def _text_weights(self) -> Iterable[nn.Parameter]:
        yield from self.clip.model.text_model.parameters()
        yield from self.clip.model.text_projection.parameters()
        if self.adapter is not None:
            yield from self.adapter.parameters()

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Tensors of any shapes: what trains and running means; of a published file all."""
        if self._keeps_all:
            return {name: value.detach() for name, value in self.state_dict().items()}
        named = {k: v for group in self._trained_by_group().values() for k, v in group.items()}
        buffers = {
            name: value
            for name, value in self.state_dict().items()
            if name not in named and not name.startswith("clip.")
        }
        return {name: value.detach() for name, value in {**named, **buffers}.items()}

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, of any shapes, or a checkpoint of CAT-Seg's.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """
        if is_published(state):
            state = self._from_published(state)
            own = {name: value for name, value in self.state_dict().items() if _is_plain(name)}
        else:
            own = self.checkpoint_state()
        try:
            take_over(own, state)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{_about_templates(own, state)}") from error

    def _from_published(self, published: dict[str, Tensor]) -> dict[str, Tensor]:
        """CAT-Seg's tensors, of any shapes, by the names that they have here."""
        state = from_published(published)
        self._check_width(state)
        state = self._fitted(state)
        self._keep_all()
        return state

    def _check_width(self, state: dict[str, Tensor]) -> None:
        """Tell CAT-Seg's tensors, of any shapes, on another CLIP from others that do not fit."""
        found = state.get(_OF_WIDTH)
        if found is not None and found.ndim == 1 and len(found) != self.clip.width:
            raise CheckpointError(
                f"these are weights of CAT-Seg on a CLIP of width {len(found)} (ViT-B has 768, "
                f"ViT-L 1024), and this config's is {self.clip.width} wide: use the config "
                "of the same (configs/ahs_seg/cat_seg_vitb.yaml or cat_seg_vitl.yaml)"
            )

    def _fitted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A plain CAT-Seg's tensors, of any shapes, as this model holds them."""
        own, fitted = self.state_dict(), {}
        for name, tensor in state.items():
            if name not in own and (wrapped := _wrapped(name)) in own:
                name = wrapped
            fitted[name] = self._with_further_costs(tensor, own) if name == _EMBED else tensor
        return fitted

    def _with_further_costs(self, tensor: Tensor, own: dict[str, Tensor]) -> Tensor:
        """CAT-Seg's first layer, (C,P,7,7), as (C,P+X,7,7): X further costs do nothing as yet."""
        out, costs, *kernel = own[_EMBED].shape
        due = (out, len(self.texts.templates), *kernel)
        if tuple(tensor.shape) != due:
            raise CheckpointError(
                f"shape of {_EMBED}: {tuple(tensor.shape)} in the file, and CAT-Seg with this "
                f"config's templates has {due}"
            )
        return torch.cat([tensor, tensor.new_zeros(out, costs - due[1], *kernel)], dim=1)

    def _keep_all(self) -> None:
        """CLIP's own weights go into checkpoints, too: nothing else says where they are from."""
        self._keeps_all, self.clip_source = True, _IN_CHECKPOINT

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return {"clip": self.clip_source, "finetune": self.settings.finetune}

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Compare with what a checkpoint was trained with.

        Raises:
            CheckpointError: it was another CLIP, or another part of it was trained.
        """
        if header.get("clip") == _IN_CHECKPOINT:
            self._keep_all()
        trained = header.get("finetune", self.settings.finetune)
        if trained != self.settings.finetune:
            raise CheckpointError(
                f"the checkpoint was trained with MODEL.CLIP.FINETUNE {brief(str(trained))}, and "
                f"this config has {self.settings.finetune}; use the config that it was trained with"
            )
        check_header(self.checkpoint_header(), header, ["clip"])


def _rename_published(model: CATSegParts, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give CAT-Seg's tensors, of any shapes, their names here before torch looks at them."""
    if not prefix and is_published(state):
        renamed = model._from_published(state)
        state.clear()
        state.update(renamed)


def _is_plain(name: str) -> bool:
    """Whether CAT-Seg has a tensor of that name."""
    return name.startswith(("head.", "clip.model.")) and not name.endswith("position_ids")


def _wrapped(name: str) -> str:
    """The name of a tensor of CLIP's attention where that is turned."""
    layer, _, end = name.rpartition(".")
    return f"{layer}.base.{end}"


def _about_templates(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What to say where the first layers of two heads, (C,P+X,7,7), read other numbers of costs."""
    here, there = own.get(_EMBED), found.get(_EMBED)
    if here is None or there is None or there.ndim != 4 or here.shape[1] == there.shape[1]:
        return ""
    return (
        f"; its head reads {there.shape[1]} costs of a name, and this config makes "
        f"{here.shape[1]}: one for each template of MODEL.CLIP.TEMPLATES, and one more with "
        "MODEL.CLASS_PROJECTION.ENABLED"
    )
