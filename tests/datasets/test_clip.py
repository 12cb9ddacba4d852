"""The CLIP-size model, in a small configuration of the same code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from meteors_c.datasets.clip import ClipRegressor, make_clip_model
from meteors_c.exceptions import ShapeMismatchError, ValidationError

SMALL = {"size": 28, "patch": 14, "width": 32, "layers": 2, "heads": 4, "projection": 8}


@pytest.fixture
def model() -> ClipRegressor:
    return make_clip_model(bands=6, outputs=3, **SMALL)


def test_shapes_and_weights_at_full_size() -> None:
    """The tower has the shapes of the published ViT-L/14: 303,966,208 numbers."""
    with torch.device("meta"):
        model = ClipRegressor()
    tower = {name: tuple(weight.shape) for name, weight in model.visual.state_dict().items()}
    assert sum(math.prod(shape) for shape in tower.values()) == 303_966_208
    assert len(tower) == 24 * 12 + 8
    assert tower["conv1.weight"] == (1024, 3, 14, 14)
    assert tower["positional_embedding"] == (257, 1024)
    assert tower["transformer.resblocks.23.attn.in_proj_weight"] == (3072, 1024)
    assert tower["transformer.resblocks.23.mlp.c_fc.bias"] == (4096,)
    assert tower["proj"] == (1024, 768)
    assert model.stem.weight.shape == (3, 150, 1, 1)
    assert model(torch.empty(2, 150, 224, 224, device="meta")).shape == (2, 4)


def test_forward_is_the_formula(model: ClipRegressor) -> None:
    """The same transformer from torch's own layers, with the same weights."""
    tower = model.visual
    image = torch.rand(2, 6, 28, 28)
    with torch.no_grad():
        channels = torch.einsum("fc,nchw->nfhw", model.stem.weight[:, :, 0, 0], image)
        patches = channels.unfold(2, 14, 14).unfold(3, 14, 14)  # (2, 3, 2, 2, 14, 14)
        tokens = torch.einsum("nfhwij,dfij->nhwd", patches, tower.conv1.weight).flatten(1, 2)
        tokens = torch.cat([tower.class_embedding.expand(2, 1, 32), tokens], dim=1) + tower.positional_embedding
        tokens = nn.functional.layer_norm(tokens, (32,))
        for block in tower.transformer.resblocks:
            attention = nn.MultiheadAttention(32, 4, batch_first=True)
            attention.load_state_dict(block.attn.state_dict())
            normal = nn.functional.layer_norm(tokens, (32,))
            tokens = tokens + attention(normal, normal, normal)[0]
            hidden = block.mlp.c_fc(nn.functional.layer_norm(tokens, (32,)))
            tokens = tokens + block.mlp.c_proj(hidden / (1.0 + torch.exp(-1.702 * hidden)))
        wanted = model.head(nn.functional.layer_norm(tokens[:, 0], (32,)) @ tower.proj)
        torch.testing.assert_close(model(image), wanted, rtol=1e-4, atol=1e-5)


def test_seeded(model: ClipRegressor) -> None:
    before = torch.random.get_rng_state()
    again, other = make_clip_model(6, 3, **SMALL), make_clip_model(6, 3, seed=1, **SMALL)
    assert torch.equal(torch.random.get_rng_state(), before), "torch's generator is left alone"
    for (name, weight), same, different in zip(
        model.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same)
        assert torch.isfinite(weight).all()
        assert weight.std() == 0 or not torch.equal(weight, different), name
    assert not model.training


def test_output_follows_every_band_and_patch(model: ClipRegressor) -> None:
    image = torch.rand(1, 6, 28, 28).requires_grad_()
    model(image)[0, 0].backward()
    assert (image.grad[0].abs().sum(dim=(1, 2)) > 0).all()
    assert (image.grad[0].abs().sum(dim=0) > 0).all()


def test_outputs_are_of_useful_size(model: ClipRegressor) -> None:
    with torch.no_grad():
        outputs = model(torch.rand(16, 6, 28, 28))
    assert 0.01 < outputs.std(dim=0).min() < outputs.abs().max() < 100.0


def test_bad_sizes(model: ClipRegressor) -> None:
    with pytest.raises(ValidationError, match="size.*patch.*30.*14"):
        ClipRegressor(**(SMALL | {"size": 30}))
    with pytest.raises(ValidationError, match="width.*heads.*33.*4"):
        ClipRegressor(**(SMALL | {"width": 33}))
    with pytest.raises(ShapeMismatchError, match=r"6, 28, 28.*1, 6, 14, 28"):
        model(torch.zeros(1, 6, 14, 28))
