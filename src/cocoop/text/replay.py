"""A frozen computation replayed as a CUDA graph: starting small kernels costs more than they do.

A step of the token tree is about 750 kernels, most of a few microseconds. Recorded once and replayed, forward
and backward, they cost the GPU's time alone. The kernels are the same, and so are the values.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CALLS_BEFORE = 2  # of one shape before it is recorded: recording takes as long as several calls
RECORDINGS = 4  # kept of one computation; each holds the memory of its activations
SMALL = 1 << 15  # bytes of one column of the activations, beyond which kernels outlast their start


class Replayed:
    """A function of one tensor, recorded on CUDA for the shapes that come again.

    What it returns is overwritten by the next call of that shape: use it, or copy it, before. It is the
    function itself off CUDA, for large inputs, and while the backward pass of an earlier call is to come.

    Args:
        eager: the function. Which kernels it starts depends on the shape of its argument alone.
        column: bytes of one column of its activations for one row of the argument; 0 if it computes nothing.
    """

    def __init__(self, eager: Callable[..., Tensor], column: int) -> None:
        self.eager = eager
        self._column = column
        self._calls: dict[tuple[Any, ...], int] = {}
        self._recordings: OrderedDict[tuple[Any, ...], _Recording] = OrderedDict()

    def __call__(self, x: Tensor) -> Tensor:
        """Return `eager(x)`."""
        if x.device.type != "cuda" or not 0 < len(x) * self._column <= SMALL:
            return self.eager(x)
        grad = x.requires_grad and torch.is_grad_enabled()
        key = (x.shape, x.dtype, grad)
        self._calls[key] = self._calls.get(key, 0) + 1
        if self._calls[key] <= CALLS_BEFORE:
            return self.eager(x)
        recording = self._recordings.pop(key, None) or _Recording(self.eager, x, grad)
        self._recordings[key] = recording  # the latest used stands last
        if len(self._recordings) > RECORDINGS:
            self._recordings.popitem(last=False)
        return self.eager(x) if recording.awaits_backward else recording(x)


class _Call:
    """One replayed forward pass whose backward pass may be to come."""

    done = False


class _Recording:
    """The kernels of a function for one shape, forward and, where asked for, backward."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor, grad: bool) -> None:
        self._latest: weakref.ref[_Call] | None = None
        self._in = x.detach().clone().requires_grad_(grad)
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(x.device)
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):  # libraries set themselves up, which cannot be recorded
            out = function(self._in)
            if grad:
                torch.autograd.grad(out, self._in, torch.zeros_like(out))
        torch.cuda.current_stream(x.device).wait_stream(side)
        del out
        with torch.cuda.graph(self._forward, capture_error_mode="thread_local"):
            self._out = function(self._in)
        if grad:
            self._out_grad = torch.zeros_like(self._out)
            with torch.cuda.graph(self._backward, self._forward.pool(), capture_error_mode="thread_local"):
                (self._in_grad,) = torch.autograd.grad(self._out, self._in, self._out_grad)

    @property
    def awaits_backward(self) -> bool:
        """Whether a call's activations are still needed: another call would overwrite them."""
        call = self._latest() if self._latest else None
        return call is not None and not call.done

    def __call__(self, x: Tensor) -> Tensor:
        if self._in.requires_grad:
            out: Tensor = _Replay.apply(x, self)
            return out
        return self.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self._in.copy_(x)
        self._forward.replay()
        return self._out.detach()

    def begin(self) -> _Call:
        call = _Call()
        self._latest = weakref.ref(call)
        return call

    def backward(self, call: _Call, gradient: Tensor) -> Tensor:
        if self._latest is None or self._latest() is not call:
            raise RuntimeError("a later call has overwritten the activations of this one; backward it first")
        call.done = True
        self._out_grad.copy_(gradient)
        self._backward.replay()
        return self._in_grad.clone()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, recording: _Recording) -> Tensor:
        ctx.recording, ctx.call = recording, recording.begin()
        return recording.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.recording.backward(ctx.call, gradient), None
