"""Records what a module calls in a run: functions of its parameters, and how values flow between them.

PyTorch reports every function of tensors to a ``TorchFunctionMode``, so that modules with any Python in their
``forward`` are read, also where ``torch.fx`` and ``torch.export`` give up. The same calls give the outputs of
layers in a proof.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

SIGNATURES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d"),
        ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    ),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
    "linear": ("input", "weight", "bias"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats"),
    "prelu": ("input", "weight"),
    "embedding": ("input", "weight"),
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "max_pool3d"),
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    ),
    **dict.fromkeys(
        ("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    ),
    "leaky_relu": ("input", "negative_slope"),
    "cat": ("tensors", "dim"),
}
ALIASES = {"concat": "cat", "concatenate": "cat", "leaky_relu_": "leaky_relu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a function of tensors.

    Attributes:
        function: the last part of its name, such as ``conv2d``.
        arguments: by name if the function is one of ``SIGNATURES``, else by position.
        inputs: the tensors among the arguments, in order.
        outputs: the tensors that it returned.
        owner: the innermost module that was running, "" outside all.
    """

    function: str
    arguments: Mapping[str, Any]
    inputs: Sequence[torch.Tensor]
    outputs: Sequence[torch.Tensor]
    owner: str


class LayerCalls:
    """Numbers the calls of a run that take parameters or buffers of a module: its layers.

    Attributes:
        names: the names of these tensors in the state dict, by identity.
    """

    def __init__(self, module: nn.Module) -> None:
        kept = module.state_dict().keys()
        named = itertools.chain(module.named_buffers(), module.named_parameters())
        self.names = {id(tensor): name for name, tensor in named if name in kept}
        self._aliases: list[torch.Tensor] = []  # must live on: their identities are not given to others
        self._count = 0

    def number(self, call: Call) -> int | None:
        """Return the number of the layer that a call is, None for other calls."""
        if not any(id(tensor) in self.names for tensor in call.inputs):
            return None
        if self._is_alias(call):
            self.names[id(call.outputs[0])] = self.names[id(call.inputs[0])]
            self._aliases.append(call.outputs[0])
            return None
        self._count += 1
        return self._count - 1

    @staticmethod
    def _is_alias(call: Call) -> bool:
        """Return whether a call returned the parameter itself, as ``detach`` and ``to`` do."""
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return False
        (given,), (returned,) = call.inputs, call.outputs
        return given.data_ptr() == returned.data_ptr() and given.shape == returned.shape


@dataclass(slots=True)
class Recorder(TorchFunctionMode):
    """A context in which every call is passed to a function.

    Args:
        observe: what gets the calls.
    """

    observe: Callable[[Call], None]
    _owners: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare the mode."""
        TorchFunctionMode.__init__(self)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call a function and report it."""
        options = kwargs or {}
        result = func(*args, **options)
        if outputs := [*tensors(result)]:
            name = (resolve_name(func) or getattr(func, "__name__", "")).rpartition(".")[2]
            name = ALIASES.get(name, name)
            parameters = SIGNATURES.get(name, tuple(map(str, range(len(args)))))
            self.observe(
                Call(
                    function=name,
                    arguments={**dict(zip(parameters, args, strict=False)), **options},
                    inputs=[*tensors([args, options])],
                    outputs=outputs,
                    owner=self._owners[-1] if self._owners else "",
                )
            )
        return result

    @contextlib.contextmanager
    def running(self, module: nn.Module) -> Iterator[None]:
        """Record the runs of a module, and which of its modules makes each call."""

        def enter(name: str) -> Callable[..., None]:
            return lambda *_: self._owners.append(name)

        def leave(*_: object) -> None:
            self._owners.pop()

        hooks = []
        for name, each in module.named_modules():
            hooks += [
                each.register_forward_pre_hook(enter(name)),
                each.register_forward_hook(leave, always_call=True),
            ]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()


def tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif isinstance(value, dict):
        yield from tensors([*value.values()])


def outputs_of(result: object) -> list[torch.Tensor]:
    """Return the outputs of a module, whatever it returned them in."""
    return [*tensors(result)]
