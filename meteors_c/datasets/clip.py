"""A vision transformer of CLIP's size behind a spectral stem: the model that large pretrained ones are like.

The transformer is the image tower of CLIP ViT-L/14 [1]_: patches of 14 x 14 pixels of a 224 x 224 image, 24 layers of
width 1024 with 16 heads, and a projection to 768 numbers. Parameters carry the names of the published image tower
(``conv1``, ``class_embedding``, ``transformer.resblocks.0.attn.in_proj_weight``, ...), so its weights load into
``ClipRegressor.visual`` as they are. In front stands a 1 x 1 convolution from the bands to the three channels that the
tower takes, behind it a linear layer to the targets.

.. [1] A. Radford et al., Learning transferable visual models from natural language supervision, ICML (2021).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from meteors_c.exceptions import ShapeMismatchError, ValidationError

__all__ = ["ClipRegressor", "make_clip_model"]


class QuickGELU(nn.Module):
    """The activation of CLIP: ``x sigmoid(1.702 x)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each value."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention.

    Parameters
    ----------
    width, heads : int
        Size of a token, and the number of heads that share it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, width) to the same shape."""
        joint = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        split = joint.reshape(*tokens.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)  # (n, heads, tokens, width / heads) each
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One layer of the transformer, normalised before attention and before the perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        parts = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, width) to the same shape."""
        tokens = tokens + self.attn(self.ln_1(tokens))
        return tokens + self.mlp(self.ln_2(tokens))


class VisionTransformer(nn.Module):
    """The image tower of CLIP.

    Parameters
    ----------
    size, patch : int
        Rows (and columns) of the image and of a patch; `size` is a multiple of `patch`.
    width, layers, heads : int
        Size of a token, number of layers, number of heads.
    projection : int
        Size of the output.
    """

    def __init__(self, size: int, patch: int, width: int, layers: int, heads: int, projection: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        resblocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.transformer = nn.Sequential(OrderedDict(resblocks=resblocks))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, projection))

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, size, size) to (n, projection)."""
        patches = self.conv1(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(image), 1, -1)
        tokens = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(tokens)[:, 0]) @ self.proj


class ClipRegressor(nn.Module):
    """Targets of a hyperspectral image by a CLIP image tower behind a 1 x 1 convolution.

    Weights are not initialised to anything sensible: load some, or take :func:`make_clip_model`.

    Parameters
    ----------
    bands, outputs : int
        Bands of the image, and targets.
    size, patch, width, layers, heads, projection : int
        The tower; the defaults are ViT-L/14.

    Raises
    ------
    ValidationError
        `size` is not a multiple of `patch`, or `width` not of `heads`.

    Examples
    --------
    >>> small = ClipRegressor(bands=10, outputs=2, size=28, width=32, layers=1, heads=2, projection=8)
    >>> sum(parameter.numel() for parameter in small.parameters())
    32147
    """

    def __init__(
        self,
        bands: int = 150,
        outputs: int = 4,
        *,
        size: int = 224,
        patch: int = 14,
        width: int = 1024,
        layers: int = 24,
        heads: int = 16,
        projection: int = 768,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValidationError(f"size must be a multiple of patch, got size={size} and patch={patch}")
        if width % heads:
            raise ValidationError(f"width must be a multiple of heads, got width={width} and heads={heads}")
        self.size = size
        self.stem = nn.Conv2d(bands, 3, 1)
        self.visual = VisionTransformer(size, patch, width, layers, heads, projection)
        self.head = nn.Linear(projection, outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Targets of a batch of images.

        Parameters
        ----------
        image : Tensor, (n, bands, size, size)
            Reflectance, about 0 to 1.

        Returns
        -------
        Tensor, (n, outputs)

        Raises
        ------
        ShapeMismatchError
            The image has another number of rows or columns.

        Examples
        --------
        >>> small = make_clip_model(10, 2, size=28, width=32, layers=1, heads=2, projection=8)
        >>> small(torch.rand(3, 10, 28, 28)).shape
        torch.Size([3, 2])
        """
        if image.shape[-2:] != (self.size, self.size):
            raise ShapeMismatchError(
                f"image must have the shape (n, {self.stem.in_channels}, {self.size}, {self.size}), "
                f"got {tuple(image.shape)}"
            )
        return self.head(self.visual(self.stem(image)))


def make_clip_model(bands: int = 150, outputs: int = 4, *, seed: int = 0, **sizes: int) -> ClipRegressor:
    """A :class:`ClipRegressor` with random weights, spread as CLIP spreads them before training.

    Parameters
    ----------
    bands, outputs : int
        Bands of the image, and targets.
    seed : int
        The same seed gives the same weights; torch's global generator is left alone.
    **sizes : int
        Sizes of the tower, as :class:`ClipRegressor` takes them.

    Returns
    -------
    ClipRegressor
        In eval mode, float32; 1.2 GB of weights at the default sizes.

    Examples
    --------
    >>> small = make_clip_model(10, 2, size=28, width=32, layers=1, heads=2, projection=8)
    >>> same = make_clip_model(10, 2, size=28, width=32, layers=1, heads=2, projection=8, seed=0)
    >>> bool((small.head.weight == same.head.weight).all())
    True
    """
    with torch.device("meta"):
        model = ClipRegressor(bands, outputs, **sizes)
    model.to_empty(device="cpu")
    width = model.visual.proj.shape[0]
    layers = sum(isinstance(part, Block) for part in model.modules())
    inside, residual = width**-0.5, (2 * layers * width) ** -0.5
    spread = {"c_fc.weight": (2 * width) ** -0.5, "out_proj.weight": residual, "c_proj.weight": residual}
    spread |= {"stem.weight": bands**-0.5, "head.weight": model.head.in_features**-0.5}
    spread |= {"conv1.weight": (3 * model.visual.conv1.kernel_size[0] ** 2) ** -0.5}
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            owner, kind = name.split(".")[-2:] if "." in name else ("", name)
            if kind in ("bias", "in_proj_bias"):
                weight.zero_()
            elif owner.startswith("ln_"):
                weight.fill_(1.0)
            else:
                weight.normal_(0.0, spread.get(f"{owner}.{kind}", inside), generator=random)
    return model.requires_grad_(False).eval()
