from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_lib.core.blackbox import BlackBox
from xai_lib.pertmap import Box, violation_rates, worst_point


def cut(margin: float) -> torch.nn.Module:
    """Class 0 leads by margin + x_0: a half-plane."""

    class Cut(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            lead = margin + x[:, 0]
            return torch.stack([lead, torch.zeros_like(lead)], dim=1)

    return Cut()


def same(w: Tensor) -> Box:
    return Box(w, w)


def test_half_plane_cuts_off_a_known_share():
    # r_0 uniform in [-0.5, 1] lies below -0.2 in a share 0.3 / 1.5; of the corners,
    # the half at r_0 = -0.5 do.
    box = Box(torch.tensor([[0.5, 2.0]]), torch.tensor([[1.0, 0.1]]))
    rates = violation_rates(cut(0.2), torch.zeros(1, 2), box, 0, n_samples=8000)
    # Four standard errors: sqrt(.2 * .8 / 8,000) and sqrt(.25 / 8,000).
    assert rates.uniform.item() == pytest.approx(0.2, abs=0.018)
    assert rates.corners.item() == pytest.approx(0.5, abs=0.0224)
    worst = worst_point(cut(0.2), torch.zeros(1, 2), box, 0)
    assert worst.excess.item() == pytest.approx(0.3)
    assert worst.perturbation[0, 0].item() == pytest.approx(-0.5)


def test_a_tie_is_no_violation_and_a_small_box_has_none():
    # The corner r_0 = -0.25 is an exact tie.
    box = same(torch.full((1, 2), 0.25))
    rates = violation_rates(cut(0.25), torch.zeros(1, 2), box, 0, n_samples=500)
    assert rates.uniform.item() == 0
    assert rates.corners.item() == 0
    assert worst_point(cut(0.25), torch.zeros(1, 2), box, 0).excess.item() == 0


def test_worst_point_of_a_curved_model_beats_every_corner(smooth_net, images):
    """Against all 2^10 corners of a box that is flat in the other 30 directions."""
    w = torch.zeros_like(images)
    w.flatten(1)[:, ::4] = 0.4
    target = smooth_net(images).argmax(dim=1)
    worst = worst_point(smooth_net, images, same(w))
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=10))).double()
    for n in range(len(images)):
        r = torch.zeros(len(signs), 40).double()
        r[:, ::4] = 0.4 * signs
        with torch.no_grad():
            scores = smooth_net(images[n] + r.view(-1, 2, 5, 4))
        c = int(target[n])
        others = [j for j in range(6) if j != c]
        leads = (scores[:, others] - scores[:, [c]]).amax(dim=1)
        assert worst.excess[n] >= leads.max() - 1e-9
        assert (worst.perturbation[n].abs() <= w[n] + 1e-12).all()
        # What is reported is what the model says there.
        at = smooth_net((images[n] + worst.perturbation[n])[None])[0]
        assert worst.excess[n].item() == pytest.approx(
            (at[others].max() - at[c]).item(), abs=1e-9
        )


def test_rates_do_not_depend_on_batches_or_company(smooth_net, images):
    box = same(torch.full_like(images, 1.5))
    together = violation_rates(smooth_net, images, box, n_samples=100)
    small = BlackBox(smooth_net, batch_size=7)
    assert torch.equal(
        together.uniform, violation_rates(small, images, box, n_samples=100).uniform
    )
    assert small.queries == 3 + 2 * 3 * 100
    alone = violation_rates(smooth_net, images[1:2], box[1:2], n_samples=100)
    assert torch.equal(alone.corners, together.corners[1:2])
    assert together.uniform.min() > 0
    assert together.uniform.max() < 1


def test_rates_of_a_model_without_gradients():
    def numpy_model(x: np.ndarray) -> np.ndarray:
        return np.stack([0.2 + x[:, 0], np.zeros(len(x))], axis=1)

    box = same(torch.ones(1, 2))
    rates = violation_rates(numpy_model, torch.zeros(1, 2), box, 0, n_samples=4000)
    assert rates.uniform.item() == pytest.approx(0.4, abs=0.031)


def test_w_is_half_the_side():
    box = Box(torch.tensor([[0.2, 0.0]]), torch.tensor([[0.4, 1.0]]))
    assert torch.allclose(box.w, torch.tensor([[0.3, 0.5]]))
    assert torch.allclose(
        box.at(torch.tensor([-1.0, 1.0])), torch.tensor([[-0.2, 1.0]])
    )


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (torch.tensor([[-0.1]]), torch.ones(1, 1), "lower must not be negative"),
        (torch.ones(1, 1), torch.ones(1, 2), "must have one shape"),
        (torch.ones(1, 1), torch.full((1, 1), torch.nan), "upper must be finite"),
    ],
)
def test_bad_box(lower: Tensor, upper: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        Box(lower, upper)


def test_bad_arguments():
    x, box = torch.zeros(1, 2), same(torch.ones(1, 2))
    with pytest.raises(ValueError, match="box must have the shape of inputs"):
        violation_rates(cut(0.2), torch.zeros(2, 2), box)
    with pytest.raises(ValueError, match="target 2 is out of range"):
        violation_rates(cut(0.2), x, box, target=2)
    with pytest.raises(ValueError, match="at least 2 scores"):
        violation_rates(lambda x: x[:, :1], x, box)
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        violation_rates(cut(0.2), x, box, n_samples=0)
    with pytest.raises(ValueError, match="n_starts must be at least 1"):
        worst_point(cut(0.2), x, box, n_starts=0)
    with pytest.raises(ValueError, match="forward_func gives no gradients"):
        worst_point(lambda x: x.detach(), x, box)
