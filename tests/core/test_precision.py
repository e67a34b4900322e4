"""Reduced precision: close to float32, as said, and never a stale or unsaid answer."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from xai_lib.core import blackbox as blackbox_module
from xai_lib.core import extras, openvino_backend
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import Disagreement, Missing, NotConvertible

IMAGES = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def capable() -> bool:
    if find_spec("openvino") is None:
        return False
    able = extras.openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in able


bf16 = pytest.mark.skipif(not capable(), reason="the processor has no bfloat16")
int8 = pytest.mark.skipif(find_spec("nncf") is None, reason="needs NNCF")
PRECISIONS = [
    pytest.param("bfloat16", marks=bf16),
    pytest.param("int8", marks=int8),
]


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 12 * 12, 5),
        ).eval()


@pytest.fixture(autouse=True)
def _said_anew() -> Iterator[None]:
    blackbox_module._say_once.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        yield


def gap(scores: Tensor, expected: Tensor) -> float:
    return float((scores - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_answers_are_rounded_and_close(precision: str) -> None:
    module = net()
    blackbox = BlackBox(module, precision=precision)
    scores, expected = blackbox(IMAGES), module(IMAGES).detach()
    assert (blackbox.backend, blackbox.queries) == ("openvino", 10)
    assert scores.dtype is torch.float32
    # Equal answers would come from a copy in float32.
    assert 1e-4 < gap(scores, expected) < 0.1
    assert BlackBox(module, backend="openvino")(IMAGES).allclose(expected, atol=1e-5)


@bf16
def test_bfloat16_rounds_as_torch_does() -> None:
    """Against torch's autocast: both differ from float32 by about as much."""
    module = net()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rounded = module(IMAGES).float()
    expected = module(IMAGES).detach()
    theirs, ours = (
        gap(rounded, expected),
        gap(BlackBox(module, precision="bfloat16")(IMAGES), expected),
    )
    assert theirs / 4 < ours < theirs * 4


def test_torch_in_bfloat16_is_its_autocast() -> None:
    module = net()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = module(IMAGES[:4]).float()
    asked = BlackBox(module, backend="torch", precision="bfloat16", batch_size=4)
    assert torch.equal(asked(IMAGES[:4]), expected)
    assert asked.backend == "torch"
    assert asked.queries == 4
    function = BlackBox(lambda x: module(x), backend="torch", precision="bfloat16")
    assert torch.equal(function(IMAGES[:4]), expected)


@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        pytest.param("auto", "bfloat16", marks=bf16),
        ("torch", "bfloat16"),
        pytest.param("auto", "int8", marks=int8),
    ],
)
def test_the_agreement_is_measured_kept_and_said_once(
    backend: str, precision: str
) -> None:
    module = net()
    blackbox = BlackBox(module, backend=backend, precision=precision, batch_size=4)
    assert blackbox.agreement is None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        scores = blackbox(IMAGES[:4])
        blackbox(IMAGES)
    said = [str(w.message) for w in caught if precision in str(w.message)]
    found = blackbox.agreement
    assert found is not None
    assert said == [f"Sequential in {found}"]
    assert f"in {precision}" in repr(blackbox)
    assert found.precision == precision
    # What was asked is in the probe (OpenVINO's holds mirrored images as well).
    assert found.inputs in (4, 8)
    assert gap(scores, module(IMAGES[:4]).detach()) <= found.gap * 1.5
    assert found.same_class <= found.inputs
    assert found.time > 0


def test_float32_is_the_default_and_has_nothing_to_tell() -> None:
    blackbox = BlackBox(net())
    blackbox(IMAGES)
    assert (blackbox.precision, blackbox.agreement) == ("float32", None)
    assert " in " not in repr(blackbox)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_stale_answers(precision: str) -> None:
    module = net()
    blackbox = BlackBox(module, precision=precision)
    blackbox(IMAGES)
    module[6].weight.data.mul_(-1)
    expected = module(IMAGES).detach()
    assert gap(blackbox(IMAGES), expected) < 0.1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_audit_sees_less_than_rounding(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float32 copy is held against torch: a change that rounding would hide."""
    module = net()
    blackbox = BlackBox(module, precision=precision)
    blackbox(IMAGES)
    monkeypatch.setattr(openvino_backend, "AUDIT", float("inf"))
    blackbox(IMAGES)
    monkeypatch.setattr(openvino_backend.Guards, "check", lambda *_: None)
    module[6].weight.data.mul_(1.005)
    with pytest.raises(Disagreement, match="differs from torch by"):
        blackbox(IMAGES)


@bf16
def test_an_answer_that_is_far_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(openvino_backend.TOLERANCE, "bfloat16", 1e-9)
    with pytest.raises(Disagreement, match="OpenVINO in bfloat16 differs from torch"):
        BlackBox(net(), precision="bfloat16")(IMAGES)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads(precision: str) -> None:
    blackbox = BlackBox(net(), precision=precision, batch_size=5)
    alone = [blackbox(IMAGES[i : i + 5]) for i in range(6)]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(blackbox, IMAGES[i % 6 : i % 6 + 5]) for i in range(48)]
        together = [each.result() for each in asked]
    # Each batch differs from the others by more than ten times this.
    for i, answer in enumerate(together):
        torch.testing.assert_close(answer, alone[i % 6], rtol=0, atol=6e-3)
    assert blackbox.queries == 54 * 5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_copies_and_pickles(precision: str) -> None:
    blackbox = BlackBox(net(), precision=precision, batch_size=5)
    expected = blackbox(IMAGES)
    for again in (pickle.loads(pickle.dumps(blackbox)), copy.deepcopy(blackbox)):
        assert again.agreement == blackbox.agreement
        assert (again.precision, again.queries) == (precision, 10)
        torch.testing.assert_close(again(IMAGES), expected, rtol=1e-4, atol=1e-4)


class Branch(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) if images.max() > 0.5 else images.flatten(1) * 2


# Errors


@bf16
def test_what_cannot_be_converted_is_an_error_and_not_float32() -> None:
    with pytest.raises(NotConvertible, match="Branch"):
        BlackBox(Branch().eval(), precision="bfloat16")(IMAGES)


@pytest.mark.parametrize(
    ("precision", "able"), [("bfloat16", ["FP32", "INT8"]), ("int8", ["FP32"])]
)
def test_a_processor_without_the_instructions(
    precision: str, able: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        def get_property(self, *_: str) -> list[str]:
            return able

    openvino = extras.openvino()
    monkeypatch.setattr(openvino, "Core", Plain)
    monkeypatch.setattr(openvino_backend, "find_spec", lambda name: name)
    with pytest.raises(NotConvertible, match=f"no instructions for {precision}"):
        BlackBox(net(), precision=precision)(IMAGES)


def test_int8_without_nncf(monkeypatch: pytest.MonkeyPatch) -> None:
    found = openvino_backend.find_spec
    monkeypatch.setattr(
        openvino_backend, "find_spec", lambda n: None if n == "nncf" else found(n)
    )
    with pytest.raises(Missing, match=r"pip install 'xai-lib\[int8\]'"):
        BlackBox(net(), precision="int8")(IMAGES)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"precision": "half"}, "precision must be one of float32, bfloat16, int8"),
        ({"precision": 16}, "precision must be one of"),
        ({"precision": "int8", "backend": "torch"}, "'int8' does not go with backend"),
        ({"precision": "int8", "backend": "numpy"}, "'int8' does not go with backend"),
        ({"precision": "bfloat16", "backend": "numpy"}, "does not go with backend"),
    ],
)
def test_wrong_arguments(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BlackBox(net(), **settings)


def test_int8_is_not_for_an_accelerator() -> None:
    with pytest.raises(ValueError, match="'int8' does not go with backend 'torch'"):
        BlackBox(net().to("meta"), precision="int8")


def test_a_function_must_name_its_backend() -> None:
    module = net()
    with pytest.raises(TypeError, match=r"an nn\.Module; or name the backend"):
        BlackBox(lambda x: module(x), precision="bfloat16")
