"""The affine stem shortcut: where it is taken it gives the plain path's numbers, elsewhere it says why not."""

from __future__ import annotations

import itertools
import threading

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
    """A stem of plain tensor methods and a layer."""

    def __init__(self, reshape, layer, features):
        super().__init__()
        self.reshape, self.layer, self.head = reshape, layer, head(features)

    def forward(self, x):
        return self.head(self.layer(self.reshape(x)))


PIXELS = ROWS * COLUMNS
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


def test_lists_share_one_stem(hsi):
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


class Rereading(nn.Module):
    """Reads its input in a second way behind the stem."""

    def __init__(self, read):
        super().__init__()
        self.stem, self.head, self.read = nn.Conv2d(BANDS, 3, 1), head(3 * PIXELS), read

    def forward(self, x):
        return self.read(x, self.head(self.stem(x)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Conv2d(BANDS, BANDS, 1), head(BANDS * PIXELS)

    def forward(self, x):
        return self.head(self.mix(self.mix(x)))


class Sketchy(nn.Module):
    """Its middle layer's output is read once in the graph and once behind autograd's back."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(BANDS, 4, 1), nn.Conv2d(4, 3, 1), head(3 * PIXELS)

    def forward(self, x):
        first = self.first(x)
        return self.head(self.second(first)) * (1 + first.detach().mean())


def hooked(model):
    model[0].register_forward_hook(lambda *_: None)
    return model


def patched(model):
    model[0].forward = model[0].forward
    return model


def refuse_nan(x, y):
    assert x.isfinite().all()
    return y


DECLINED = {
    "not affine at the input": (lambda: nn.Sequential(nn.Tanh(), TAKEN["conv2d"]()), "structure"),
    "input read twice": (lambda: Rereading(lambda x, y: y + x.mean((1, 2, 3))[:, None]), "structure"),
    "input read behind autograd": (lambda: Rereading(lambda x, y: y * x.detach().mean()), "structure"),
    "input compared, all true": (
        lambda: Rereading(lambda x, y: y * (x > 0.04).double().mean((1, 2, 3))[:, None]),
        "structure",
    ),
    "input compared, true at the baseline": (
        lambda: Rereading(lambda x, y: y * (1 + (x < 0.06).double().mean((1, 2, 3))[:, None])),
        "structure",
    ),
    "middle of the stem read": (Sketchy, "structure"),
    "a layer called twice": (Twice, "structure"),
    "hooks": (lambda: hooked(TAKEN["conv2d"]()), "model_state"),
    "replaced forward": (lambda: patched(TAKEN["conv2d"]()), "model_state"),
    "refuses NaN": (lambda: Rereading(refuse_nan), "structure"),
    "one number for a batch": (lambda: Rereading(lambda x, y: y[:, 1].sum()), "structure"),
    "product with itself": (lambda: Reshaped(lambda x: x * x, nn.Conv2d(BANDS, 3, 1), 3 * PIXELS), "structure"),
    "reciprocal": (lambda: Reshaped(lambda x: 2 / x, nn.Conv2d(BANDS, 3, 1), 3 * PIXELS), "structure"),
    "batch folded into pixels": (
        lambda: Reshaped(lambda x: x.permute(0, 2, 3, 1).reshape(-1, BANDS), nn.Linear(BANDS, 4), 1),
        "structure",
    ),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined_and_right_all_the_same(name, hsi):
    build, reason = DECLINED[name]
    model = make(build)
    if name == "batch folded into pixels":
        model.head = nn.Sequential(nn.Tanh(), nn.Unflatten(0, (-1, PIXELS)), head(4 * PIXELS)).double().eval()
    arguments = {"target": None} if name == "one number for a batch" else {}
    fast = attribute(model, hsi, **arguments)
    plain = attribute(model, hsi, shortcuts=False, **arguments)
    assert_declined(fast.report, reason)
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-13)


def test_train_mode_is_declined(hsi):
    model = nn.Sequential(nn.Conv2d(BANDS, 3, 1), nn.Dropout(0.5), head(3 * PIXELS)).double().train()
    with pytest.warns(UserWarning, match="train mode"):
        result = attribute(model, hsi)
    assert_declined(result.report, "model_state")
    assert model.training


def test_functions_and_torchscript_are_declined(hsi):
    model = make(TAKEN["conv2d"])
    weight = model[0].weight.detach()
    function = attribute(lambda x: model[1](nn.functional.conv2d(x, weight, padding=1)), hsi)
    assert_declined(function.report, "not_offered")
    script = attribute(torch.jit.trace(model, hsi.image[None]), hsi)
    assert_declined(script.report, "not_offered")
    assert script.report.model == "TorchScript"
    torch.testing.assert_close(script.attributes, attribute(model, hsi, shortcuts=False).attributes, rtol=0, atol=1e-13)


def test_random_models_are_declined(hsi):
    result = attribute(make(lambda: Rereading(lambda x, y: y + torch.rand((), dtype=y.dtype))), hsi)
    assert_declined(result.report, "verification")


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
    """An exception passes unchanged, but behind a shortcut or while one is proved it is a reason to go without."""
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
        return told

    told = [outcome(raising_call) for raising_call in range(1, 14)]
    # One sample is asked alone; the model is followed at the image, the baseline and halfway; it is run from its stem
    # there, and if that fails once more with features in the usual order; then comes the run, which starts again.
    groups = [(one, len(list(same))) for one, same in itertools.groupby(told)]
    assert [one for one, _ in groups] == ["my own", "failure", "affine prefix", "failure"], told
    assert [count for _, count in groups[1:3]] == [3, 3]


class Flat(nn.Module):
    """Takes features only as they usually lie in memory."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(BANDS, 3, 1), nn.Linear(3 * PIXELS, 3)

    def forward(self, x):
        return self.head(self.stem(x).view(-1, 3 * PIXELS).tanh())


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
    """While the stem is replaced for the engine, another thread that calls the model gets its own output."""
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
