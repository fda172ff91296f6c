"""A GPU that is only pretended: tensors "on it" lie in this machine's memory, and are treated as CUDA treats its own.

`with pretended_gpu():` makes `torch.cuda.is_available()` true. What is moved to or made on "cuda" is marked and says so
(`tensor.device`), and so is all that is computed from it. As with CUDA, an operation on a tensor that is there and one
that is not raises, unless the latter has no dimensions, and so does `.numpy()` of one that is there. The arithmetic is
the processor's, so results must be equal to it. `FakeTensorMode` cannot do this: a PyTorch without CUDA refuses to move
its tensors there, and it computes nothing.

What is not pretended: streams, memory that is pinned, TF32, and what PyTorch calls from C++ below the function that a
test sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

MARK = "_is_there"
HERE, THERE = torch.device("cpu"), torch.device("cuda")
MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda)
# Getters and setters, which are other objects each time that they are asked for, and equal ones.
DEVICE, IS_CUDA, SET_DATA = Tensor.device.__get__, Tensor.is_cuda.__get__, Tensor.data.__set__  # type: ignore[attr-defined]
COMPATIBLE = torch._has_compatible_shallow_copy_type  # pyright: ignore[reportPrivateImportUsage]
MIXES = (Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__, SET_DATA, COMPATIBLE)
NEEDS_HERE = (Tensor.numpy, Tensor.__array__)


class PretendedGpu(TorchFunctionMode):
    """Marks, checks and counts.

    Attributes:
        launched: the functions that were given tensors that are there, by name, with how often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launched: dict[str, int] = {}

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        there = any(map(is_there, tensors))
        name = getattr(func, "__name__", str(func))
        if func == DEVICE:
            return THERE if there else HERE
        if func == IS_CUDA:
            return there
        if there and func in NEEDS_HERE:
            raise TypeError("can't convert cuda device type tensor to numpy. Use Tensor.cpu() first")
        if func not in (*MIXES, *MOVES) and there:
            if not all(is_there(tensor) or tensor.dim() == 0 for tensor in tensors):
                raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda and cpu")
            self.launched[name] = self.launched.get(name, 0) + 1
        if func in MOVES:
            wanted = device_of(func, args, kwargs, there)
            args, kwargs = tree_map(on_cpu, (args, kwargs))
            func, args = (Tensor.to, (args[0], HERE)) if func == Tensor.cuda else (func, args)
            moved = func(*args, **kwargs)
            if moved is tensors[0] and wanted != there:
                moved = moved.clone()
            return marked(moved, wanted)
        kwargs.pop("pin_memory", None)  # which only a machine with a GPU can give
        if "device" in kwargs and kwargs["device"] is not None:
            there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = HERE
        result = func(*args, **kwargs)
        if func == SET_DATA:
            marked(args[0], is_there(args[1]))
        elif func != Tensor.copy_:  # which stays where it was
            tree_map(lambda leaf: marked(leaf, there) if isinstance(leaf, Tensor) else leaf, result)
        return result


def _copied(copy: Callable) -> Callable:
    """A parameter's `__deepcopy__`, which makes the copy below what a mode sees."""
    return lambda self, memo: marked(copy(self, memo), is_there(self))


@contextmanager
def pretended_gpu(free_gb: float = 80.0) -> Iterator[PretendedGpu]:
    """PyTorch has a GPU with so much free memory within the block, and in this process alone."""
    memory = int(free_gb * 1e9)
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.get_device_name", return_value="pretended GPU"),
        mock.patch("torch.cuda.mem_get_info", return_value=(memory, memory)),
        mock.patch.object(torch.nn.Parameter, "__deepcopy__", _copied(torch.nn.Parameter.__deepcopy__)),
        PretendedGpu() as gpu,
    ):
        yield gpu


def is_there(tensor: Tensor) -> bool:
    """Whether a tensor is on the pretended GPU."""
    return getattr(tensor, MARK, False)


def marked(tensor: Tensor, there: bool) -> Tensor:
    """The same tensor, on the pretended GPU or not."""
    if is_there(tensor) != there:
        setattr(tensor, MARK, there)
    return tensor


def on_cpu(leaf: Any) -> Any:
    """The device that a move really goes to."""
    if isinstance(leaf, torch.device) or leaf in ("cuda", "cuda:0"):
        return HERE
    return leaf


def device_of(func: Callable, args: Any, kwargs: Any, there: bool) -> bool:
    """Whether what is moved is there afterwards."""
    if func != Tensor.to:
        return func == Tensor.cuda
    for leaf in (*args[1:], *kwargs.values()):
        if isinstance(leaf, Tensor):
            return is_there(leaf)
        if isinstance(leaf, (torch.device, str)):
            return torch.device(leaf).type == "cuda"
    return there
