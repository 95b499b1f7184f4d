"""The plain U-Net: any size, boundaries by padding, shifts."""

import pytest
import torch

from paperworks.operators import UNet


@pytest.mark.parametrize("padding_mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize(("ndim", "sizes"), [(1, (21,)), (2, (16, 13)), (2, (5, 9)), (3, (6, 8, 7))])
def test_any_size_is_given_back(ndim, sizes, padding_mode):
    net = UNet(2, 3, 4, 2, padding_mode=padding_mode, ndim=ndim)
    assert net(torch.randn(2, 2, *sizes)).shape == (2, 3, *sizes)


def test_periodic_net_commutes_with_shifts_by_whole_coarse_cells():
    net = UNet(1, 1, 4, 2, padding_mode="circular").double()
    u = torch.randn(2, 1, 16, 16).double()
    torch.testing.assert_close(net(u.roll((4, -8), (2, 3))), net(u).roll((4, -8), (2, 3)), rtol=1e-9, atol=1e-10)
    zeros = UNet(1, 1, 4, 2, padding_mode="zeros").double()
    assert (zeros(u.roll(4, 2)) - zeros(u).roll(4, 2)).abs().max() > 1e-3


def test_reflecting_net_on_a_field_mirrored_over_its_boundary_gives_the_mirrored_answer():
    net = UNet(1, 1, 4, 0, padding_mode="reflect", groups=0).double()
    for convolution in net.down[0][::2]:
        convolution.weight.data += convolution.weight.data.flip(2)
    u = torch.randn(1, 1, 6, 6).double()
    mirrored = torch.cat([u[:, :, 1:].flip(2), u], 2)
    torch.testing.assert_close(net(mirrored)[:, :, 5:], net(u), rtol=1e-9, atol=1e-10)


def test_every_pixel_may_depend_on_every_other():
    net = UNet(1, 1, 4, 3).double()
    u = torch.randn(1, 1, 16, 16).double().requires_grad_()
    (gradient,) = torch.autograd.grad(net(u)[0, 0, 0, 0], u)
    assert (gradient != 0).all()


def test_too_small_to_reflect_is_said():
    with pytest.raises(ValueError, match="more than 4 points"):
        UNet(depth=2, padding_mode="reflect")(torch.randn(1, 1, 4, 9))


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(ValueError, match="one of zeros, circular"):
        UNet(padding_mode="wrap")
    with pytest.raises(ValueError, match="3 do not divide"):
        UNet(width=8, groups=3)
    with pytest.raises(ValueError, match=r"u: expected shape \(batch, 1, n0, n1\), given"):
        UNet()(torch.randn(2, 1, 8))
