"""One optimiser step over several micro-batches and processes, as if over one batch."""

import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detecture.d2 import CfgNode, SimpleTrainer, comm, get_event_storage
from detecture.data.training_stream import mix_seeds
from detecture.engine.curriculum import unwrap
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import NormalizesLosses, PreparesBatches

_STEP_STREAM = 7  # apart from the streams of the data
_MOST_NAMES = 10

Batch = list[dict[str, Any]]
Losses = dict[str, float]


class AccumulatingTrainer(SimpleTrainer):
    """Forward and backward over all micro-batches of an iteration, then one update.

    Args:
        model: returns a dict of scalar losses; wrapped where there are several processes.
        data_loader: endless; yields micro-batches.
        optimizer: the optimiser of the model's parameters.
        cfg: reads SOLVER.ACCUMULATION, SOLVER.CLIP_GRADIENTS and LOSS.NORMALIZER.
        seed: seed for dropout and the like; the same in every process.
        precision: number format under autocast; None: no autocast.

    A model with `loss_normalizers(batch)` is, under LOSS.NORMALIZER "global", given their sums over
    all micro-batches and processes as `model(batch, normalizers=)`; its losses are then summed.
    Otherwise they are averaged. Either way, the loss reported is that of the whole batch.

    Before each micro-batch torch is seeded from (seed, iteration, process, micro-batch), so that no
    random generator's state has to be saved.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        *,
        cfg: CfgNode,
        seed: int,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self._accumulation = cfg.SOLVER.ACCUMULATION
        self._global = cfg.LOSS.NORMALIZER == "global"
        self._clip = cfg.SOLVER.CLIP_GRADIENTS
        self._precision = precision
        self._device = next(model.parameters()).device
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=precision == torch.float16, init_scale=2.0**14
        )

    def run_step(self) -> None:
        """One iteration.

        Raises:
            FloatingPointError: a loss or a gradient is not finite in some process; raised in all
                processes, before the update. Names the loss, the iteration and the files.
            RuntimeError: the model is in evaluation mode.
            ConfigError: with several processes, a trainable parameter takes no part in any loss.
        """
        if not self.model.training:
            raise RuntimeError("the model is in evaluation mode; call model.train()")
        start = time.perf_counter()
        batches = [next(self._data_loader_iter) for _ in range(self._accumulation)]
        data_time = time.perf_counter() - start

        prepared = self._prepare(batches)
        normalizers = self._sum_normalizers(prepared)
        self.optimizer.zero_grad(set_to_none=True)
        outputs = []
        for micro, batch in enumerate(prepared):
            last = micro == len(batches) - 1
            before = self._gradients() if last else {}
            with contextlib.nullcontext() if last else self._without_exchange():
                outputs.append(self._forward_backward(micro, batch, normalizers))
        self._require_all_used(before)
        losses, data_time = self._gather(outputs, batches, data_time, normalizers is not None)
        norm = self._clip_gradients()
        if not math.isfinite(norm) and not self._scaler.is_enabled():  # a scaler skips the update
            raise FloatingPointError(
                f"the gradient is {norm} in iteration {self.iter}, of finite losses {losses}; "
                f"files of this process: {', '.join(_files(batches))}. Lower SOLVER.BASE_LR, or "
                "turn SOLVER.AMP.ENABLED off"
            )
        self._scaler.step(self.optimizer)
        self._scaler.update()
        storage = get_event_storage()
        storage.put_scalar("data_time", data_time)
        # Exact values, not smoothed ones: two runs can be compared line by line.
        scalars = {"total_loss": sum(losses.values()), "grad_norm": norm}
        for name, value in (scalars | losses).items():
            storage.put_scalar(name, value, smoothing_hint=False)

    def _prepare(self, batches: Sequence[Batch]) -> Sequence[Any]:
        model = unwrap(self.model)
        if not isinstance(model, PreparesBatches):
            return batches
        return [model.prepare(batch) for batch in batches]

    def _sum_normalizers(self, batches: Sequence[Any]) -> dict[str, float] | None:
        model = unwrap(self.model)
        if not self._global or not isinstance(model, NormalizesLosses):
            return None
        own = [model.loss_normalizers(batch) for batch in batches]
        # Gathered and added in rank order and in double precision, so the sum is the same
        # everywhere.
        everyone = [one for process in comm.all_gather(own) for one in process]
        return {name: math.fsum(float(one[name]) for one in everyone) for name in everyone[0]}

    def _forward_backward(
        self, micro: int, batch: Any, normalizers: dict[str, float] | None
    ) -> dict[str, torch.Tensor]:
        """Add the gradients of a micro-batch; returns its losses by name, detached scalars."""
        rank, world_size = comm.get_rank(), comm.get_world_size()
        torch.manual_seed(mix_seeds(self.seed, _STEP_STREAM, self.iter, rank, micro))
        with self._autocast():
            given = {} if normalizers is None else {"normalizers": normalizers}
            losses = self.model(batch, **given)
        if isinstance(losses, torch.Tensor):
            losses = {"loss": losses}
        total = sum(losses.values())
        if not isinstance(total, torch.Tensor):
            raise TypeError(f"{type(unwrap(self.model)).__name__} returned no loss: {losses!r}")
        # DistributedDataParallel averages gradients over the processes; a sum needs that undone.
        scale = 1.0 / self._accumulation if normalizers is None else float(world_size)
        self._scaler.scale(total * scale).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._precision)

    def _without_exchange(self) -> contextlib.AbstractContextManager[Any]:
        if isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return contextlib.nullcontext()

    def _gradients(self) -> dict[str, int]:
        """How often each parameter's gradient was written to, if gradients are exchanged."""
        if not isinstance(self.model, DistributedDataParallel):
            return {}
        named = unwrap(self.model).named_parameters()
        return {
            name: -1 if parameter.grad is None else parameter.grad._version
            for name, parameter in named
            if parameter.requires_grad
        }

    def _require_all_used(self, before: dict[str, int]) -> None:
        """Check that the last backward pass wrote to every gradient that the processes exchange.

        Runs before the next exchange, where torch would only give the parameters' numbers.

        Raises:
            ConfigError: it did not; the message names the parameters.
        """
        now = self._gradients()
        unused = [name for name, version in before.items() if now[name] == version]
        if unused:
            shown = ", ".join(unused[:_MOST_NAMES]) + (", .." if len(unused) > _MOST_NAMES else "")
            raise ConfigError(
                f"{type(unwrap(self.model)).__name__}: {len(unused)} parameters have no part in "
                f"the losses of iteration {self.iter}, {shown}; several processes can exchange the "
                "gradients only of what every forward pass uses. Freeze them in the model "
                "(requires_grad_(False)), leave the layer out, or train with --num-gpus 1, where "
                "they stay as they are"
            )

    def _gather(
        self,
        outputs: Sequence[dict[str, torch.Tensor]],
        batches: Sequence[Batch],
        data_time: float,
        summed: bool,
    ) -> tuple[Losses, float]:
        """The losses of the whole batch and the longest wait for data, over all processes.

        Args:
            outputs: for each micro-batch of this process, its losses by name, scalars.
            batches: the micro-batches.
            data_time: seconds that this process waited.
            summed: the whole batch's loss is the sum of the losses; otherwise it is their mean.

        Raises:
            FloatingPointError: a loss is not finite in some process; raised in all of them.
        """
        own = [_to_numbers(losses) for losses in outputs]
        everyone = comm.all_gather((own, data_time))
        every = [losses for process, _ in everyone for losses in process]
        if any(not math.isfinite(v) for losses in every for v in losses.values()):
            self._stop(own, batches)
        names = list(dict.fromkeys(name for losses in every for name in losses))
        divisor = 1 if summed else len(every)
        mean = {name: math.fsum(one.get(name, 0.0) for one in every) / divisor for name in names}
        return mean, max(seconds for _, seconds in everyone)

    def _stop(self, own: Sequence[Losses], batches: Sequence[Batch]) -> None:
        """Raise in every process an error that occurred in any of them."""
        found = [
            (name, value, _files([batch]))
            for losses, batch in zip(own, batches, strict=True)
            for name, value in losses.items()
            if not math.isfinite(value)
        ]
        everything = [one for process in comm.all_gather(found) for one in process]
        texts = [f"{name} is {value} for {', '.join(files)}" for name, value, files in everything]
        raise FloatingPointError(
            f"Non-finite loss in iteration {self.iter}, before the update: {'; '.join(texts)}. "
            "Look at these files, lower SOLVER.BASE_LR, or turn SOLVER.AMP.ENABLED off"
        )

    def _clip_gradients(self) -> float:
        """Clip as SOLVER.CLIP_GRADIENTS says; returns the whole gradient's norm before clipping."""
        self._scaler.unscale_(self.optimizer)
        parameters = [
            parameter
            for group in self.optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm_type = float(self._clip.NORM_TYPE)
        norm = nn.utils.get_total_norm(gradients, norm_type)
        if self._clip.ENABLED:
            limit, kind = self._clip.CLIP_VALUE, self._clip.CLIP_TYPE
            if kind == "full_model":
                nn.utils.clip_grads_with_norm_(parameters, limit, norm)
            elif kind == "value":
                nn.utils.clip_grad_value_(parameters, limit)
            else:  # as in Detectron2, the norm of each parameter by itself
                for parameter in parameters:
                    nn.utils.clip_grad_norm_(parameter, limit, norm_type)
        return float(norm)

    def state_dict(self) -> dict[str, Any]:
        """The state of the base class and, for float16, the loss scaler's."""
        state = super().state_dict()
        if self._scaler.is_enabled():
            state["grad_scaler"] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        if "grad_scaler" in state_dict:
            self._scaler.load_state_dict(state_dict["grad_scaler"])


def _to_numbers(losses: dict[str, torch.Tensor]) -> Losses:
    """Scalars by name as numbers, copied from the device in one go."""
    values = torch.stack([loss.float() if _is_short(loss) else loss for loss in losses.values()])
    return dict(zip(losses, values.tolist(), strict=True))


def _is_short(loss: torch.Tensor) -> bool:
    """Whether a scalar has 16 bits."""
    return loss.dtype in (torch.float16, torch.bfloat16)


def _files(batches: Sequence[Batch]) -> list[str]:
    return [
        str(sample.get("file_name", sample.get("image_id", "?")))
        for batch in batches
        for sample in batch
    ]
