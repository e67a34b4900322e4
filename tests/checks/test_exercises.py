"""Every exercise checker against a right answer, wrong answers and the stub."""

import pytest
import torch

from xai_lib.checks import chapter00, chapter01
from xai_lib.checks.exercise import WrongAnswer


def occlude(image, top, left, size):
    hidden = image.clone()
    hidden[:, top : top + size, left : left + size] = 0
    return hidden


def occlude_in_place(image, top, left, size):
    image[:, top : top + size, left : left + size] = 0
    return image


def rise_map(masks, scores):
    return torch.einsum("m,mhw->hw", scores, masks) / masks.sum(0)


def places(length, window, stride):
    return (length - window) // stride + 1


def integrate(gradient, x, baseline, n_steps):
    steps = (torch.arange(n_steps) + 0.5) / n_steps
    path = [gradient(baseline + t * (x - baseline)) for t in steps.double()]
    return torch.stack(path).mean(0) * (x - baseline)


def delete_top(image, attribution, k):
    order = attribution.flatten().argsort(descending=True, stable=True)
    flat = image.flatten().clone()
    flat[order[:k]] = 0
    return flat.view_as(image)


RIGHT = {
    chapter00.occlude: occlude,
    chapter00.rise_map: rise_map,
    chapter00.occlusion_queries: lambda h, w, k, s: places(h, k, s) * places(w, k, s),
    chapter01.integrated_gradients: integrate,
    chapter01.aopc: lambda scores: (1 - scores[1:] / scores[0]).mean(),
    chapter01.delete_top: delete_top,
    chapter01.blind_spot: lambda x: 1 - torch.relu(1 - x.sum()),
}

WRONG = {
    chapter00.occlude: [
        occlude_in_place,
        lambda i, t, left, s: occlude(i, left, t, s),  # rows and columns mixed up
        lambda i, t, left, s: occlude(i[:1], t, left, s),  # one channel only
        lambda i, t, left, s: None,
    ],
    chapter00.rise_map: [
        lambda m, s: torch.einsum("m,mhw->hw", s, m) / len(m),
        lambda m, s: torch.einsum("m,mhw->hw", s, m) / (0.5 * len(m)),
        lambda m, s: m.mean(0),
    ],
    chapter00.occlusion_queries: [
        lambda h, w, k, s: h * w,
        lambda h, w, k, s: (h // s) * (w // s),
        lambda h, w, k, s: places(h, k, s) ** 2,  # only right on squares
    ],
    chapter01.integrated_gradients: [
        lambda g, x, b, n: g(x) * (x - b),
        lambda g, x, b, n: integrate(g, x, b, n) / (x - b),
        # n + 1 points of which the sum is divided by n
        lambda g, x, b, n: (
            sum(g(b + k / n * (x - b)) for k in range(n + 1)) / n * (x - b)
        ),
    ],
    chapter01.aopc: [
        lambda s: (s[0] - s[1:]).mean(),
        lambda s: (1 - s / s[0]).mean(),
        lambda s: 1 - s.mean(),
    ],
    chapter01.delete_top: [
        lambda i, a, k: delete_top(i, -a, k),
        lambda i, a, k: delete_top(i, a.abs(), k),
        lambda i, a, k: delete_top(i.flip(0), a.flip(0), k).flip(0),  # ties reversed
    ],
    chapter01.blind_spot: [
        lambda x: x.sum(),  # the gradient sees it
        lambda x: x.sum() * 0,  # nothing to see
        lambda x: 1 - torch.relu(1 - x[0]),  # one feature does not matter
        lambda x: 1.0,  # not a tensor
    ],
}

WRONG_CASES = [(check, wrong) for check, answers in WRONG.items() for wrong in answers]


@pytest.mark.parametrize("check", RIGHT)
def test_right_answer(check, capsys):
    check(RIGHT[check])
    assert capsys.readouterr().out.endswith(": ok\n")


@pytest.mark.parametrize(("check", "wrong"), WRONG_CASES)
def test_wrong_answer(check, wrong):
    with pytest.raises(WrongAnswer, match=r"^exercise \d\.\d: ."):
        check(wrong)


@pytest.mark.parametrize("check", RIGHT)
def test_stub(check, capsys):
    check(lambda *_: ...)
    assert capsys.readouterr().out.endswith(": not attempted yet\n")


def test_every_checker_has_right_and_wrong_answers():
    exercises = {
        value
        for chapter in (chapter00, chapter01)
        for name, value in vars(chapter).items()
        if getattr(value, "__module__", "").endswith("exercise")
        and getattr(value, "__name__", "") == "run"
    }
    assert exercises == set(RIGHT) == set(WRONG)
    assert all(len(answers) >= 2 for answers in WRONG.values())


def test_an_answer_must_be_a_function():
    with pytest.raises(TypeError, match=r"exercise 0\.1 checks a function, got int"):
        chapter00.occlude(3)
