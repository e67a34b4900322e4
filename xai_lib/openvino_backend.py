"""Run a torch module through OpenVINO on a CPU, three to four times faster.

A converted model is compared with torch on a few real inputs before it may answer. It
is kept for as long as its module lives, and made again when a parameter has changed
since: a stale copy would answer for a model that is gone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]
# By module and input shape: the parameters' state, and the outcome for that state.
_Kept = dict[tuple, tuple[tuple, "Run | NotConvertible"]]
_cache: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()

PROBE = 4  # inputs to compare


class NotConvertible(RuntimeError):
    """OpenVINO cannot run this module."""


class Missing(NotConvertible):
    """OpenVINO is not installed."""


class Disagreement(NotConvertible):
    """OpenVINO runs this module, but answers differently from torch."""


def compiled(module: nn.Module, inputs: Tensor) -> Run:
    """A function from float32 batches shaped like `inputs` to the module's output.

    Args:
        module: in eval mode, on the CPU.
        inputs: `[N, ...]`; N is free, the other sizes are fixed. The first few are
            the probe on which OpenVINO must agree with torch.

    Raises:
        NotConvertible: with OpenVINO's own reason.
        Missing: with the package to install.
        Disagreement: with the size of the difference.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if inputs.dtype != torch.float32:
        raise NotConvertible(f"OpenVINO runs in float32, the inputs are {inputs.dtype}")
    if any(t.is_inference() for t in tensors):
        raise NotConvertible("the parameters were made in inference mode")
    if find_spec("openvino") is None:
        raise Missing("OpenVINO is not installed; pip install openvino brings it")
    # The version counts changes in place, but not those made through `.data`: a first
    # number tells of them.
    state = tuple(
        (t.data_ptr(), t._version, t[(0,) * t.ndim].item() if t.numel() else None)
        for t in tensors
    )
    shape = tuple(inputs.shape[1:])
    kept = _cache.setdefault(module, {})
    if shape not in kept or kept[shape][0] != state:
        kept[shape] = (state, _attempt(module, inputs[:PROBE].detach().cpu().clone()))
    outcome = kept[shape][1]
    if isinstance(outcome, NotConvertible):
        raise type(outcome)(*outcome.args)
    return outcome


def _attempt(module: nn.Module, probe: Tensor) -> Run | NotConvertible:
    """The compiled module if it agrees with torch on the probe, or why not."""
    try:
        run = _compile(module, probe)
        answer = run(probe)
    except Exception as error:
        return NotConvertible(f"{type(module).__name__}: {error}")
    with torch.inference_mode():
        expected = module(probe.clone())
    if not isinstance(expected, Tensor) or (answer.dtype, answer.shape) != (
        expected.dtype,
        expected.shape,
    ):
        name = type(module).__name__
        return NotConvertible(f"{name}: OpenVINO answers in another type or shape")
    # float32 sums in another order differ by about 1e-5 of the largest score.
    gap = (answer - expected).abs().max()
    if gap <= 1e-3 * expected.abs().max():
        return run
    return Disagreement(
        f"OpenVINO differs from torch by {gap:.2g} on a probe of {len(probe)} inputs"
    )


def _compile(module: nn.Module, probe: Tensor) -> Run:
    training = [layer for layer in module.modules() if layer.training]
    try:
        import openvino

        # Tracing warns about Python branches; the probe is the real check. Tensors
        # made in inference mode cannot be traced.
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(
                module,
                example_input=probe[:1].clone(),
                input=[(-1, *probe.shape[1:])],
            )
        if len(graph.outputs) != 1:
            raise ValueError(f"it returns {len(graph.outputs)} tensors, not one")
        # On recent CPUs OpenVINO would otherwise compute in bfloat16. And it would pin
        # the thread that asks to the first core, where all processes would meet.
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        request = openvino.compile_model(graph, "CPU", settings).create_infer_request()
    finally:
        for layer in training:  # the conversion has switched them to eval mode
            layer.training = True

    def run(batch: Tensor) -> Tensor:
        # The inputs are shared, not copied; the outputs would be overwritten by the
        # next call, so they are copied.
        answer = request.infer([batch.cpu().contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(answer[0])

    return run
