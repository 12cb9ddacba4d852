"""The affine prefix shortcut: where it is taken it gives the plain path's numbers, elsewhere it says why not."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn

import meteors_c as mt
from tests.toys import assert_declined, assert_shortcut, each_value

BANDS, ROWS, COLUMNS = 6, 4, 5


@pytest.fixture
def hsi():
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64) + 0.1
    return mt.HSI(image=image, wavelengths=torch.linspace(400, 900, BANDS))


def attribute(model, hsi, *, shortcuts="always", steps=9, problem="regression", **arguments):
    torch.manual_seed(1)
    explainer = mt.attr.IntegratedGradients(mt.models.ExplainableModel(model, problem))
    arguments = {"target": 1, "baseline": 0.05, "n_steps": steps, "return_convergence_delta": True, **arguments}
    with mt.options(shortcuts=shortcuts):
        return explainer.attribute(hsi, **arguments)


def head(features: int) -> nn.Module:
    return nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(features, 3))


class Reshaped(nn.Module):
    """A prefix of plain tensor methods and a layer."""

    def __init__(self, reshape, layer, features):
        super().__init__()
        self.reshape, self.layer, self.head = reshape, layer, head(features)

    def forward(self, x):
        return self.head(self.layer(self.reshape(x)))


PIXELS = ROWS * COLUMNS


class Rereading(nn.Module):
    """Reads its input in a second way behind its first layer."""

    def __init__(self, read):
        super().__init__()
        self.first, self.head, self.read = nn.Conv2d(BANDS, 3, 1), head(3 * PIXELS), read

    def forward(self, x):
        return self.read(x, self.head(self.first(x)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Conv2d(BANDS, BANDS, 1), head(BANDS * PIXELS)

    def forward(self, x):
        return self.head(self.mix(self.mix(x)))


class Branches(nn.Module):
    """Three affine branches that meet before anything else happens, and one that does not."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(BANDS, 3, 1), nn.Conv2d(BANDS, 3, 3, padding=1)
        self.join, self.head = nn.Conv2d(9, 2, 1), head(5 * PIXELS)

    def forward(self, x):
        right = self.right(x)
        joined = self.join(torch.cat([self.left(x), right, x[:, :3] - right], 1))
        return self.head(torch.cat([joined, torch.tanh(right)], 1))


class Folded(nn.Module):
    """Pixels of all samples as one batch."""

    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Linear(BANDS, 4), head(4 * PIXELS)

    def forward(self, x):
        pixels = self.mix(x.permute(0, 2, 3, 1).reshape(-1, BANDS)).tanh()
        return self.head(pixels.unflatten(0, (-1, PIXELS)))


def hooked(model):
    model[0].register_forward_hook(lambda module, given, y: 2 * y)
    return model


def patched(model):
    forward = model[0].forward
    model[0].forward = lambda x: forward(x) - 0.1
    return model


TAKEN = {
    "conv2d": lambda: nn.Sequential(nn.Conv2d(BANDS, 3, 3, padding=1), head(3 * PIXELS)),
    "conv2d, stride and no bias": lambda: nn.Sequential(nn.Conv2d(BANDS, 3, 2, stride=2, bias=False), head(12)),
    "pixelwise": lambda: nn.Sequential(nn.Conv2d(BANDS, 4, 1), head(4 * PIXELS)),
    "conv and batch norm": lambda: nn.Sequential(nn.Conv2d(BANDS, 3, 3), nn.BatchNorm2d(3), head(18)),
    "batch norm alone": lambda: nn.Sequential(nn.BatchNorm2d(BANDS), head(BANDS * PIXELS)),
    "average pool": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(BANDS, 2, 1), head(8)),
    "three layers": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(BANDS, 5, 1), nn.BatchNorm2d(5)), nn.Conv2d(5, 2, 3), nn.Identity(), head(12)
    ),
    "flatten and linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(BANDS * PIXELS, 7), head(7)),
    "conv3d": lambda: Reshaped(lambda x: x.unsqueeze(1), nn.Conv3d(1, 2, (3, 2, 2)), 2 * 4 * 3 * 4),
    "conv1d": lambda: Reshaped(lambda x: x.flatten(2).transpose(1, 2), nn.Conv1d(PIXELS, 4, 3), 16),
    "linear on bands last": lambda: Reshaped(lambda x: x.permute(0, 2, 3, 1), nn.Linear(BANDS, 4), 4 * PIXELS),
    "written over": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 3, 3, padding=1), nn.ELU(0.5, inplace=True), nn.Flatten(), nn.Linear(3 * PIXELS, 3)
    ),
    "shifted and scaled": lambda: Reshaped(lambda x: (x - 0.3) / 2, nn.Conv2d(BANDS, 2, 1), 2 * PIXELS),
    "view": lambda: Reshaped(lambda x: x.view(-1, 2, BANDS // 2, ROWS, COLUMNS), nn.Conv3d(2, 2, 1), 6 * PIXELS),
    "several branches": Branches,
    "batch folded into pixels": Folded,
    "a layer called twice": Twice,
    "hooks": lambda: hooked(TAKEN["conv2d"]()),
    "replaced forward": lambda: patched(TAKEN["conv2d"]()),
    "input read twice": lambda: Rereading(lambda x, y: y + x.mean((1, 2, 3))[:, None]),
    "input read by a product": lambda: Rereading(lambda x, y: y * x[:, 0].amax((1, 2))[:, None]),
    "input read behind autograd": lambda: Rereading(lambda x, y: y * x.detach().mean((1, 2, 3))[:, None]),
    "input compared": lambda: Rereading(lambda x, y: y * (x > 0.3).double().mean((1, 2, 3))[:, None]),
    "input compared, true at the baseline": lambda: Rereading(
        lambda x, y: y * (1 + (x < 0.06).double().mean((1, 2, 3))[:, None])
    ),
}


def make(build) -> nn.Module:
    torch.manual_seed(0)
    model = build().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(0.1, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize(("name", "batch"), each_value(TAKEN, [None, 1, 4]))
def test_taken_and_equal(name, batch, hsi):
    model = make(TAKEN[name])
    fast = attribute(model, hsi, internal_batch_size=batch)
    plain = attribute(model, hsi, shortcuts=False, internal_batch_size=batch)
    assert_shortcut(fast.report, "affine prefix", 9)
    assert_declined(plain.report, "switched_off")
    scale = plain.attributes.abs().max()
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=float(1e-12 * scale))
    assert fast.score == pytest.approx(plain.score, abs=1e-12)


@pytest.mark.parametrize("name", TAKEN)
def test_a_baseline_of_zeros(name, hsi):
    """What convolutions and linear layers make of it is their biases."""
    model = make(TAKEN[name])
    fast, plain = (attribute(model, hsi, baseline=0, shortcuts=shortcuts) for shortcuts in ("always", False))
    assert_shortcut(fast.report, "affine prefix", 9)
    scale = plain.attributes.abs().max()
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=float(1e-12 * scale))
    assert fast.score == pytest.approx(plain.score, abs=1e-12)


def test_infinite_weights_make_no_bias_of_zeros(hsi):
    model = make(TAKEN["conv2d"])
    with torch.no_grad():
        model[0].weight[0, 0, 1, 1] = torch.inf
    fast, plain = (attribute(model, hsi, baseline=0, shortcuts=shortcuts) for shortcuts in ("always", False))
    assert not plain.attributes.isfinite().all()
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-12, equal_nan=True)


def test_lists_share_one_prefix(hsi):
    """Images of a list, each with its own target and baseline, are prepared together."""
    model = make(TAKEN["conv2d"])
    others = [mt.HSI(image=hsi.image * (1 + k), wavelengths=hsi.wavelengths) for k in range(5)]
    arguments = {"target": [0, 1, 2, 0, 1], "baseline": [0.0, 0.1, 0.2, None, hsi.image / 2]}
    fast = attribute(model, others, internal_batch_size=3, **arguments)
    plain = attribute(model, others, shortcuts=False, **arguments)
    assert_shortcut(fast[0].report, "affine prefix", 5 * 9)
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a.attributes, b.attributes, rtol=0, atol=1e-13)


def test_float32_stays_as_close_to_float64_as_the_plain_path(hsi):
    model = make(TAKEN["conv2d"])
    exact = attribute(model, hsi, shortcuts=False).attributes
    image = mt.HSI(image=hsi.image.float(), wavelengths=hsi.wavelengths)
    model = model.float()
    fast, plain = attribute(model, image), attribute(model, image, shortcuts=False)
    assert_shortcut(fast.report, "affine prefix")
    error = [float((a.attributes.double() - exact).abs().max() / exact.abs().max()) for a in (fast, plain)]
    assert error[0] <= max(2 * error[1], 1e-6)


def test_batches_obey_the_bound(hsi):
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make(TAKEN["conv2d"])

        def forward(self, x):
            seen.append(len(x))
            return self.inner(x)

    result = attribute(Watched().eval(), [hsi] * 4, internal_batch_size=2)
    assert_shortcut(result[0].report, "affine prefix")
    assert max(seen) == 2


# ---- declined


class Sketchy(nn.Module):
    """Each output holds a mean over all samples of the batch, which autograd does not see."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(BANDS, 4, 1), nn.Conv2d(4, 3, 1), head(3 * PIXELS)

    def forward(self, x):
        first = self.first(x)
        return self.head(self.second(first)) * (1 + first.detach().mean())


def refuse_nan(x, y):
    assert x.isfinite().all()
    return y


# Models, and kinds of reasons; for samples that influence each other the numbers are those of one sample at a time.
DECLINED = {
    "not affine at the input": (lambda: nn.Sequential(nn.Tanh(), TAKEN["conv2d"]()), ["structure"]),
    "product with itself": (lambda: Reshaped(lambda x: x * x, nn.Conv2d(BANDS, 3, 1), 3 * PIXELS), ["structure"]),
    "reciprocal": (lambda: Reshaped(lambda x: 2 / x, nn.Conv2d(BANDS, 3, 1), 3 * PIXELS), ["structure"]),
    "refuses NaN": (lambda: Rereading(refuse_nan), ["structure"]),
    "one number for a batch": (lambda: Rereading(lambda x, y: y[:, 1].sum()), ["structure"]),
    "a mean over the batch": (lambda: Rereading(lambda x, y: y * x.detach().mean()), ["structure", "verification"]),
    "a mean over the batch of features": (Sketchy, ["structure", "verification"]),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined_and_right_all_the_same(name, hsi):
    build, reasons = DECLINED[name]
    model = make(build)
    arguments = {"target": None} if name == "one number for a batch" else {}
    fast = attribute(model, hsi, **arguments)
    plain = attribute(model, hsi, shortcuts=False, internal_batch_size=1, **arguments)
    assert fast.report.decline_reason in reasons
    assert_declined(fast.report, fast.report.decline_reason)
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-13)


def test_train_mode_is_declined(hsi):
    model = nn.Sequential(nn.Conv2d(BANDS, 3, 1), nn.Dropout(0.5), head(3 * PIXELS)).double().train()
    with pytest.warns(UserWarning, match="train mode"):
        result = attribute(model, hsi)
    assert_declined(result.report, "model_state")
    assert model.training


@pytest.mark.parametrize("form", ["function", "traced", "scripted"])
def test_functions_and_torchscript_are_taken(form, hsi):
    model = make(TAKEN["conv2d"])
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    forms = {
        "function": lambda: lambda x: model[1](nn.functional.conv2d(x, weight, bias, padding=1)),
        "traced": lambda: torch.jit.trace(model, hsi.image[None]),
        "scripted": lambda: torch.jit.script(model),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        other = forms[form]()
    fast = attribute(other, hsi)
    assert_shortcut(fast.report, "affine prefix", 9)
    plain = attribute(model, hsi, shortcuts=False)
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-13)


def test_random_models_are_declined(hsi):
    result = attribute(make(lambda: Rereading(lambda x, y: y + torch.rand((), dtype=y.dtype))), hsi)
    assert_declined(result.report, "model_state")
    assert "aten::rand" in result.report.shortcut_declined


def test_one_gradient_needs_no_shortcut(hsi):
    model = mt.models.ExplainableModel(make(TAKEN["conv2d"]), "regression")
    result = mt.attr.Saliency(model).attribute(hsi, target=0)
    assert_declined(result.report, "nothing_shared")


# ---- the model is left as it was


def state(model: nn.Module):
    registry = torch.nn.modules.module
    return (
        [sorted(module.__dict__) for module in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        len(registry._global_forward_hooks),
    )


def test_nothing_stays_behind(hsi):
    model = make(TAKEN["three layers"])
    before = state(model)
    attribute(model, hsi)
    assert state(model) == before


def test_nothing_stays_behind_when_the_model_raises_once(hsi):
    """An exception on the plain path passes unchanged; while a program is made it is a reason to decline."""
    plain = attribute(make(lambda: Rereading(lambda x, y: y)), hsi, shortcuts=False).attributes

    def outcome(raising_call):
        calls = []

        def fail(x, y):
            calls.append(1)
            if len(calls) == raising_call:
                raise LookupError("my own")
            return y

        model = make(lambda: Rereading(fail))
        before = state(model)
        try:
            result = attribute(model, hsi, internal_batch_size=1, return_convergence_delta=False)
        except LookupError as passed:
            told = str(passed)
        else:
            torch.testing.assert_close(result.attributes, plain, rtol=0, atol=1e-13)
            told = result.report.shortcut or result.report.decline_reason
        assert state(model) == before
        return told, len(calls)

    unharmed, calls = outcome(0)
    assert unharmed == "affine prefix"
    told = [outcome(raising_call)[0] for raising_call in range(1, calls + 2)]
    assert set(told) == {"my own", "failure", "affine prefix"}  # the last also where it is tried in another layout
    assert told[0] == "my own"  # a sample that is evaluated by the model's own calls, to know how long that takes
    assert told[-1] == "affine prefix"


class Flat(nn.Module):
    """Takes features only as they usually lie in memory."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(BANDS, 3, 1), nn.Linear(3 * PIXELS, 3)

    def forward(self, x):
        return self.head(self.first(x).view(-1, 3 * PIXELS).tanh())


def test_models_that_refuse_channels_last(hsi):
    model = make(Flat)
    fast, plain = attribute(model, hsi), attribute(model, hsi, shortcuts=False)
    assert_shortcut(fast.report, "affine prefix")
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-13)


def test_interrupts_are_not_reasons_to_decline(hsi):
    def interrupt(x, y):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute(make(lambda: Rereading(interrupt)), hsi)


def test_other_threads_see_the_whole_model(hsi):
    """While the engine records the model and runs its program, another thread that calls it gets its own output."""
    wrong, stop, image = [], threading.Event(), hsi.image[None] / 3

    def slow(x, y):
        return y.tanh().sin().cos()

    model = make(lambda: Rereading(slow))
    with torch.no_grad():
        want = model(image)

    def keep_calling():
        with torch.no_grad():
            while not stop.is_set():
                if not torch.equal(model(image), want):
                    wrong.append(1)

    thread = threading.Thread(target=keep_calling)
    thread.start()
    try:
        result = attribute(model, hsi, steps=300)
    finally:
        stop.set()
        thread.join()
    assert_shortcut(result.report, "affine prefix")
    assert not wrong


@pytest.mark.parametrize("name", TAKEN)
def test_replayed_without_reuse(name, hsi):
    """The recorded program on whole samples gives the model's numbers, and says so."""
    model = make(TAKEN[name])
    replayed, plain = attribute(model, hsi, shortcuts="replay"), attribute(model, hsi, shortcuts=False)
    assert_shortcut(replayed.report, "replay", 9)
    assert "operators" in replayed.report.program
    scale = plain.attributes.abs().max()
    torch.testing.assert_close(replayed.attributes, plain.attributes, rtol=0, atol=float(1e-12 * scale))


@pytest.mark.parametrize("method", ["boxes", "bands", "superpixels"])
def test_other_samples_are_replayed(method, hsi):
    explainer = mt.models.ExplainableModel(make(TAKEN["conv and batch norm"]), "regression")
    mask = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) // 5
    calls = {
        "boxes": lambda: mt.attr.Occlusion(explainer).attribute(
            hsi, target=0, sliding_window_shapes=(2, 2, 2), strides=(1, 1, 1)
        ),
        "bands": lambda: mt.attr.Occlusion(explainer).get_spectral_attributes(hsi, target=0, sliding_window_shapes=1),
        "superpixels": lambda: mt.attr.KernelShap(explainer).get_spatial_attributes(hsi, mask, target=0),
    }
    with mt.options(shortcuts="replay"):
        replayed = calls[method]()
    with mt.options(shortcuts=False):
        plain = calls[method]()
    assert_shortcut(replayed.report, "replay")
    torch.testing.assert_close(replayed.attributes, plain.attributes, rtol=0, atol=1e-12)
