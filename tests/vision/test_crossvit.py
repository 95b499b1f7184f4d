"""CrossViT's mathematics, its names, and the task that it is tested on."""

import pytest
import torch
from torch import nn

from paperworks.measure import count_operations, count_parameters
from paperworks.nn.vit import DropPath, SelfAttention, resize_position_embedding
from paperworks.vision.crossvit import NAMED_SIZES, CrossAttention, CrossViT, MultiScaleBlock, crossvit_toy
from paperworks.vision.digits_data import cluttered_digits, place, split_glyphs


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model.eval()


def toy(**changes) -> CrossViT:
    return randomised(crossvit_toy(in_chans=1, img_size=16, num_classes=5, depth=((1, 2, 0),), **changes))


def test_tensors_of_every_published_size():
    expected = {"tiny": 304, "small": 304, "base": 304, "9": 268, "9_dagger": 276, "15": 340, "15_dagger": 348,
                "18": 376, "18_dagger": 384}  # fmt: skip
    with torch.device("meta"):
        for name, count in expected.items():
            assert len(NAMED_SIZES[f"crossvit_{name}_240"]().state_dict()) == count, name


def test_counts_of_the_papers_fusions():
    with torch.device("meta"):
        assert count_parameters(NAMED_SIZES["crossvit_small_240"](fusion="none")) == 23_738_960
        assert count_parameters(NAMED_SIZES["crossvit_small_240"](fusion="class")) == 24_186_512
        assert count_parameters(NAMED_SIZES["crossvit_small_240"](fusion="pairwise")) == 24_186_512
        assert count_parameters(crossvit_toy()) == 175_292


def test_operations_of_tiny_are_those_published():
    model = NAMED_SIZES["crossvit_tiny_240"]().eval()
    images = torch.randn(1, 3, 240, 240)
    with torch.no_grad():
        assert count_operations(lambda: model(images), backward=False) / 2 == pytest.approx(1.563e9, rel=0.01)


def test_one_query_attention_is_row_0_of_full_attention():
    full, one = randomised(SelfAttention(12, 3)), CrossAttention(12, 3).eval()
    q, k, v = full.qkv.weight.chunk(3)
    qb, kb, vb = full.qkv.bias.chunk(3)
    for layer, weight, bias in ((one.wq, q, qb), (one.wk, k, kb), (one.wv, v, vb)):
        layer.weight.data, layer.bias.data = weight, bias
    one.proj = full.proj
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(one(x), full(x)[:, :1])


def test_cross_attention_ignores_the_order_of_patches():
    block = randomised(CrossAttention(12, 3))
    x = torch.randn(2, 7, 12)
    shuffled = torch.cat([x[:, :1], x[:, 1:][:, torch.randperm(6)]], 1)
    torch.testing.assert_close(block(shuffled), block(x))


def test_cost_of_the_exchange_is_linear_in_patches():
    block = CrossAttention(12, 3)

    def cost(n: int) -> int:
        return count_operations(lambda: block(torch.randn(1, n, 12)), backward=False)

    assert cost(400) - cost(200) == cost(600) - cost(400)


def multi_scale(fusion: str = "cross") -> MultiScaleBlock:
    made = MultiScaleBlock((6, 12), (4, 2), (0, 0, 0), (3, 3), (2.0, 2.0), True, 0.0, [0.0], fusion)
    return randomised(made)


def test_patches_pass_the_exchange_untouched_and_both_directions_are_simultaneous():
    block, xs = multi_scale(), [torch.randn(2, 17, 6), torch.randn(2, 5, 12)]
    out = block(xs)
    for x, y in zip(xs, out, strict=True):
        assert torch.equal(x[:, 1:], y[:, 1:])
    for i in range(2):  # each class token from the inputs of the block, not from the other's result
        tokens = torch.cat([block.projs[i](xs[i][:, :1]), xs[1 - i][:, 1:]], 1)
        expected = block.revert_projs[i](block.fusion[i](tokens))
        torch.testing.assert_close(out[i][:, :1], expected)


def test_silent_attention_leaves_the_projections_without_residual():
    block, xs = multi_scale(), [torch.randn(2, 17, 6), torch.randn(2, 5, 12)]
    for fusion in block.fusion:
        for tensor in (fusion.attn.wv.weight, fusion.attn.wv.bias, fusion.attn.proj.bias):
            nn.init.zeros_(tensor)
    out = block(xs)
    for i in range(2):
        torch.testing.assert_close(out[i][:, :1], block.revert_projs[i](block.projs[i](xs[i][:, :1])))


def test_gradients_of_the_exchange():
    block = multi_scale().double()
    xs = [torch.randn(1, 5, 6, dtype=torch.float64, requires_grad=True), torch.randn(1, 3, 12, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda x: block([x, xs[1]])[1][:, 0], (xs[0],))


def test_logits_are_the_mean_of_both_branches():
    model, x = toy(), torch.randn(2, 1, 16, 16)
    a, b = model.branch_logits(x)
    torch.testing.assert_close(model(x), (a + b) / 2)
    torch.testing.assert_close(model.forward_head(model.forward_features(x)), model(x))


def test_shuffled_patches_with_their_positions_change_nothing():
    model, x = toy(), torch.randn(1, 1, 16, 16)
    before = model(x)
    order = torch.randperm(16)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(1, 1, 16, 4, 4)
    large = model.patch_embed[1]
    seen = large(x)
    large.forward = lambda _: seen  # the other branch keeps its view
    moved = patches[:, :, order].reshape(1, 1, 4, 4, 4, 4).permute(0, 1, 2, 4, 3, 5).reshape(1, 1, 16, 16)
    position = model.pos_embed_0.data
    position[:, 1:] = position[:, 1:][:, order].clone()
    torch.testing.assert_close(model(moved), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("fusion", "reaches"), [("cross", True), ("none", False)])
def test_small_branch_reaches_the_large_one_only_by_fusion(fusion, reaches):
    model, x = toy(fusion=fusion), torch.randn(2, 1, 16, 16)
    before = model.branch_logits(x)[1]
    for parameter in model.patch_embed[0].parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(model.branch_logits(x)[1], before) is not reaches


def test_views():
    model = randomised(crossvit_toy(in_chans=1, img_size=16, img_scale=(1.0, 0.5), num_classes=5, depth=((1, 1, 0),)))
    assert model.img_size_scaled == (16, 8)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 5)
    assert model(torch.randn(2, 1, 20, 20)).shape == (2, 5)
    with pytest.raises(ValueError, match="square"):
        model(torch.randn(2, 1, 16, 20))
    with pytest.raises(ValueError, match="multiple of its patch size"):
        crossvit_toy(img_size=30)


def test_timm_conventions():
    model, x = toy(), torch.randn(2, 1, 16, 16)
    maps = model.forward_intermediates(x)
    assert [tuple(m.shape) for m in maps[0]] == [(2, 24, 4, 4), (2, 48, 2, 2)]
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (2, model.num_features)
    assert set(model.no_weight_decay()) == {"cls_token_0", "cls_token_1", "pos_embed_0", "pos_embed_1"}
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    model.reset_classifier(0, "avg")
    assert model(x).shape == (2, 72)
    model.train().set_grad_checkpointing()
    model(x).sum().backward()
    assert model.pos_embed_0.grad.abs().sum() > 0


def test_official_names_load_strictly():
    model = toy()
    state = {
        k.replace("pos_embed_", "pos_embed.").replace("cls_token_", "cls_token."): v
        for k, v in model.state_dict().items()
    }
    x = torch.randn(1, 1, 16, 16)
    other = crossvit_toy(in_chans=1, img_size=16, num_classes=5, depth=((1, 2, 0),)).eval().load_official(state)
    assert torch.equal(other(x), model(x))
    state.pop("pos_embed.0")
    with pytest.raises(ValueError, match="not the weights"):
        other.load_official(state)


def test_earlier_branch_may_be_deeper():
    model = crossvit_toy(in_chans=1, img_size=16, depth=((2, 1, 0), (2, 0, 2)), drop_path_rate=0.1)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 10)


def test_drop_path_keeps_the_mean():
    layer, x = DropPath(0.25), torch.ones(20_000, 1)
    torch.manual_seed(0)
    assert layer(x).mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(layer.eval()(x), x)
    model = toy(drop_path_rate=0.0)
    y = torch.randn(2, 1, 16, 16)
    assert torch.equal(model.train()(y), model.eval()(y))


def test_position_embedding_resized_to_its_own_size_stays():
    embedding = torch.randn(1, 17, 3)
    torch.testing.assert_close(resize_position_embedding(embedding, 4), embedding)
    assert resize_position_embedding(embedding, 6).shape == (1, 37, 3)


def test_placing_at_the_original_size_copies():
    image = torch.rand(1, 1, 8, 8)
    canvas = place(image, torch.tensor([8.0]), torch.tensor([[3.0, 5.0]]), 20)
    torch.testing.assert_close(canvas[0, 0, 3:11, 5:13], image[0, 0])
    assert canvas.sum().item() == pytest.approx(image.sum().item(), rel=1e-5)


def test_canvases_are_reproducible_and_glyphs_disjoint():
    parts = split_glyphs(0)
    assert len(torch.cat(parts).unique()) == 1797
    a, b = (cluttered_digits(6, parts[0], torch.Generator().manual_seed(1), clutter=2) for _ in range(2))
    assert torch.equal(a.images, b.images)
    assert a.images.shape == (6, 1, 32, 32)
    assert a.sizes.min() >= 20
    assert a.sizes.max() <= 32
