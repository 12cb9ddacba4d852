/*
 * bridge.cpp - forward and gradient of torch models.
 *
 * An eager model is called with the GIL, which is released before autograd runs (torch's engine refuses to run while
 * it is held). A TorchScript module runs without Python. Gradients are computed with respect to the input alone, so
 * those of parameters are neither computed nor modified.
 */
#include "bridge.h"
#include "apart.h"
#include "block_gradients.h"
#include "recordings.h"

#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/jit/python/pybind_utils.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <sstream>
#include <string_view>
#include <utility>

namespace bridge {

namespace {

/* A text that fits into a detail of the core: TorchScript's begin with a trace and end with the reason. */
std::string shortened(const std::string &text) {
    const size_t head = 120, tail = 300;
    return text.size() <= head + tail ? text : text.substr(0, head) + " ... " + text.substr(text.size() - tail);
}

} // namespace

int guarded(const met_host *host, const std::function<void()> &body) {
    try {
        body();
        return MET_OK;
    } catch (const Pending &) {
        return MET_ECALLBACK;
    } catch (python_error &error) {
        WithGil gil;
        error.restore();
        return MET_ECALLBACK;
    } catch (const Failure &failure) {
        return failure.status == MET_EDECLINED ? host->declined(failure.reason, "%s", failure.what())
                                               : host->fail(failure.status, "%s", failure.what());
    } catch (const c10::Error &error) {
        std::string text = error.what_without_backtrace();
        bool memory =
            text.find("not enough memory") != std::string::npos || text.find("out of memory") != std::string::npos;
        return host->fail(memory ? MET_ENOMEM : MET_EMODEL, "the model failed: %s", shortened(text).c_str());
    } catch (const std::bad_alloc &) {
        return host->fail(MET_ENOMEM, "the model ran out of memory");
    } catch (const std::exception &error) {
        return host->fail(MET_EMODEL, "the model failed: %s", shortened(error.what()).c_str());
    } catch (...) {
        return host->fail(MET_EMODEL, "the model failed with an unknown C++ exception");
    }
}

std::string shape_text(at::IntArrayRef shape) {
    std::ostringstream text;
    text << "(";
    for (size_t i = 0; i < shape.size(); i++) {
        text << (i > 0 ? ", " : "") << shape[i];
    }
    text << (shape.size() == 1 ? ",)" : ")");
    return text.str();
}

/* ---- memory in and out */

at::Tensor batch_tensor(const met_batch &x) {
    met_owner *owner = x.owner;
    owner->retain(owner);
    auto type = x.dtype == MET_FLOAT64 ? at::kDouble : at::kFloat;
    return at::from_blob(
        x.data,
        {static_cast<int64_t>(x.n), static_cast<int64_t>(x.shape[0]), static_cast<int64_t>(x.shape[1]),
         static_cast<int64_t>(x.shape[2])},
        [owner](void *) { owner->release(owner); }, at::TensorOptions().dtype(type));
}

namespace {

struct TensorOwner {
    met_owner owner; /* first: an owner pointer is a pointer to this */
    std::atomic<size_t> references;
    at::Tensor tensor;
};

void retain_tensor(met_owner *self) {
    reinterpret_cast<TensorOwner *>(self)->references++;
}

void release_tensor(met_owner *self) {
    auto *held = reinterpret_cast<TensorOwner *>(self);
    if (--held->references == 0) {
        delete held;
    }
}

std::vector<int64_t> images_of(const met_batch &x) {
    return {x.image, x.image + x.n};
}

} // namespace

void export_batch(const at::Tensor &values, met_dtype dtype, met_batch *out) {
    auto type = dtype == MET_FLOAT64 ? at::kDouble : at::kFloat;
    auto *held = new TensorOwner{{retain_tensor, release_tensor}, {1}, values.detach().to(at::kCPU, type).contiguous()};
    out->owner = &held->owner;
    out->data = held->tensor.data_ptr();
    out->n = static_cast<size_t>(held->tensor.size(0));
    out->dtype = dtype;
    out->device = {MET_CPU, 0};
    out->image = nullptr;
    out->modified = false;
    for (int a = 0; a < MET_AXES; a++) {
        out->shape[a] = static_cast<size_t>(held->tensor.size(a + 1));
    }
}

/* ---- calling */

std::vector<at::Tensor> entries_of(const Model &model, const std::vector<int64_t> &images) {
    std::vector<at::Tensor> entries;
    for (const Extra &extra : model.extras) {
        if (extra.per_image) {
            auto index = at::tensor(images, at::kLong).to(extra.tensor.device());
            entries.push_back(extra.tensor.index_select(0, index));
        }
    }
    return entries;
}

namespace {

/* The tensor that a model's output is, or holds. The GIL is held. */
at::Tensor tensor_of(const Model &model, const Object &answer) {
    if (THPVariable_Check(answer.get())) {
        return THPVariable_Unpack(answer.get());
    }
    Object tensor = checked(PyObject_CallFunctionObjArgs(model.tensor_of.get(), answer.get(), nullptr));
    if (!THPVariable_Check(tensor.get())) {
        throw Failure(MET_ETYPE, std::string("tensor_of must return a tensor, not ") + Py_TYPE(tensor.get())->tp_name);
    }
    return THPVariable_Unpack(tensor.get());
}

at::Tensor call_python(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries) {
    WithGil gil;
    size_t entry = 0;
    Object arguments = checked(PyTuple_New(1 + static_cast<Py_ssize_t>(model.extras.size())));
    PyTuple_SET_ITEM(arguments.get(), 0, THPVariable_Wrap(x));
    for (size_t i = 0; i < model.extras.size(); i++) {
        const Extra &extra = model.extras[i];
        PyObject *value = extra.per_image ? THPVariable_Wrap(entries[entry++]) : extra.python.get();
        if (!extra.per_image) {
            Py_INCREF(value);
        }
        PyTuple_SET_ITEM(arguments.get(), 1 + static_cast<Py_ssize_t>(i), value);
    }
    return tensor_of(model, checked(PyObject_CallObject(model.callable.get(), arguments.get())));
}

at::Tensor call_script(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries) {
    std::vector<c10::IValue> inputs{x};
    size_t entry = 0;
    for (const Extra &extra : model.extras) {
        if (extra.per_image) {
            inputs.emplace_back(entries[entry++]);
        } else if (extra.tensor.defined()) {
            inputs.emplace_back(extra.tensor);
        } else {
            WithGil gil;
            PyObject *value = extra.python.get();
            if (value == Py_None) {
                inputs.emplace_back();
            } else if (PyBool_Check(value)) {
                inputs.emplace_back(value == Py_True);
            } else if (PyLong_Check(value)) {
                inputs.emplace_back(static_cast<int64_t>(PyLong_AsLongLong(value)));
            } else if (PyFloat_Check(value)) {
                inputs.emplace_back(PyFloat_AsDouble(value));
            } else {
                throw Failure(MET_ETYPE, std::string("additional_forward_args of a TorchScript model must be tensors, "
                                                     "numbers or None, not ") +
                                             Py_TYPE(value)->tp_name);
            }
        }
    }
    auto module = *model.script; /* forward() is not const; the handle is shared */
    c10::IValue answer = module.forward(std::move(inputs));
    if (answer.isTensor()) {
        return answer.toTensor();
    }
    WithGil gil;
    return tensor_of(model, Object(torch::jit::toPyObject(std::move(answer)).release().ptr()));
}

} // namespace

at::Tensor call(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries) {
    at::Tensor y = model.script ? call_script(model, x, entries) : call_python(model, x, entries);
    if (!y.defined() || y.is_meta()) {
        throw Failure(MET_EMODEL, "the model returned a tensor without values (device meta)");
    }
    if (!at::isFloatingType(y.scalar_type()) && !at::isIntegralType(y.scalar_type(), true)) {
        throw Failure(MET_ETYPE,
                      std::string("the model must return real numbers, not ") + c10::toString(y.scalar_type()));
    }
    return y;
}

/* ---- outputs */

namespace {

/* Outputs as (n, ...): a lone number for one sample gets its batch axis. */
at::Tensor with_batch(const at::Tensor &y, size_t n) {
    auto samples = static_cast<int64_t>(n);
    if (y.dim() == 0 && samples == 1) {
        return y.reshape({1});
    }
    if (y.dim() == 0 || y.size(0) != samples) {
        throw Failure(MET_EMODEL, "the model must return (n,) or (n, outputs, ...) for n samples: it was given " +
                                      std::to_string(n) + " and returned shape " + shape_text(y.sizes()));
    }
    return y;
}

} // namespace

at::Tensor select_targets(const Model &model, const at::Tensor &y, const met_target *const *targets, size_t n) {
    at::Tensor outputs = with_batch(y, n);
    auto shape = outputs.sizes().slice(1);
    std::vector<int64_t> flat(n);
    for (size_t i = 0; i < n; i++) {
        size_t position = 0;
        int status = model.host->target_resolve(targets[i], shape.data(), static_cast<int>(shape.size()), &position);
        if (status != MET_OK) {
            throw Failure(status, model.host->detail());
        }
        flat[i] = static_cast<int64_t>(position);
    }
    at::Tensor rows = outputs.reshape({static_cast<int64_t>(n), -1});
    bool same = std::all_of(flat.begin(), flat.end(), [&](int64_t f) { return f == flat[0]; });
    if (same) {
        return rows.select(1, flat[0]);
    }
    auto index = at::tensor(flat, at::kLong).to(rows.device()).unsqueeze(1);
    return rows.gather(1, index).squeeze(1);
}

namespace {

/* `values` as doubles on the host. */
at::Tensor host_values(const at::Tensor &values) {
    return values.detach().to(at::kCPU, at::kDouble).contiguous();
}

void reserve(met_outputs *y, size_t width) {
    int status = y->reserve(y, width);
    if (status != MET_OK) {
        throw Failure(status, "the model's outputs do not fit: " + std::to_string(width) + " for each sample");
    }
}

} // namespace

void write_values(const at::Tensor &selected, met_outputs *y) {
    at::Tensor plain = host_values(selected);
    reserve(y, 1);
    std::copy_n(plain.data_ptr<double>(), plain.numel(), y->value);
}

namespace {

/* Every output of each sample. */
void write_all(const at::Tensor &outputs, met_outputs *y) {
    at::Tensor plain = host_values(outputs);
    auto width = static_cast<size_t>(plain.numel() / plain.size(0));
    if (plain.dim() - 1 > MET_TARGET_AXES) {
        throw Failure(MET_EMODEL, "the model's outputs have too many axes: shape " + shape_text(plain.sizes()));
    }
    reserve(y, width);
    y->axes = static_cast<int>(plain.dim()) - 1;
    std::copy_n(plain.sizes().begin() + 1, y->axes, y->shape);
    std::copy_n(plain.data_ptr<double>(), plain.numel(), y->value);
}

} // namespace

void write_outputs(const Model &model, const at::Tensor &outputs, size_t n, met_outputs *y) {
    if (y->targets != nullptr) {
        write_values(select_targets(model, outputs, y->targets, n), y);
    } else {
        write_all(with_batch(outputs, n), y);
    }
}

std::vector<at::Tensor> gradients_of(const Model &model, const std::vector<at::Tensor> &ends,
                                     const std::vector<at::Tensor> &wanted, const std::vector<at::Tensor> &weights,
                                     bool keep) {
    const BlockGradients blocks(model.own_kernels);
    auto found = torch::autograd::grad(ends, wanted, weights, keep, false, true);
    model.by_blocks = model.by_blocks || blocks.taken();
    return found;
}

std::vector<at::Tensor> gradients_at(const Model &model, const at::Tensor &end,
                                     const std::vector<torch::autograd::Edge> &places) {
    const BlockGradients blocks(model.own_kernels);
    TORCH_CHECK(end.requires_grad(), "the output has no gradient");
    auto &engine = torch::autograd::Engine::get_default_engine();
    auto found =
        engine.execute({torch::autograd::impl::gradient_edge(end)}, {at::ones_like(end)}, false, false, false, places);
    model.by_blocks = model.by_blocks || blocks.taken();
    return found;
}

namespace {

/* Refuse one number for several samples: the engine then gives the model one sample at a time. */
void refuse_lone(const at::Tensor &outputs, size_t n) {
    if (is_lone(outputs, n)) {
        throw Failure(MET_ESINGLE, "the model gives one number for a whole batch");
    }
}

/* The model's outputs for a batch. */
at::Tensor call_model(Model &model, const met_batch &batch, const at::Tensor &x) {
    const std::vector<at::Tensor> entries = entries_of(model, images_of(batch));
    /* Scripts hide operators in compiled parts, and what is made of entries counts as made of the input here. */
    const bool looking = std::exchange(model.looking, false) && entries.empty() && !model.script;
    at::Tensor y;
    std::shared_ptr<Trace> run;
    if (model.watch) {
        y = model.watch->call(model, x, entries, &run);
    } else if (looking) {
        run = watched_call(model, x, entries, true, &y);
    } else {
        y = call(model, x, entries);
    }
    if (looking && run) {
        run->edges.clear(); /* they hold the graph */
        model.seen = {std::move(run), x.size(0)};
    }
    return y;
}

int forward(void *ctx, met_batch *batch, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        Turn turn(model.threads, {Work::Kind::forward, batch->n});
        /* Not inference mode: a model may keep what it makes here (a cache of positions, say) and train with it. */
        at::NoGradGuard off;
        at::Tensor x = batch_tensor(*batch);
        auto version = x._version();
        at::Tensor outputs = call_model(model, *batch, to_model(model, x));
        batch->modified = x._version() != version;
        refuse_lone(outputs, batch->n);
        write_outputs(model, outputs, batch->n, y);
    });
}

/* ---- gradients */

/* d selected / d x for samples that do not influence each other. */
at::Tensor input_gradient(const Model &model, const at::Tensor &selected, const at::Tensor &x) {
    if (!at::isFloatingType(selected.scalar_type()) || !selected.requires_grad()) {
        throw Failure(MET_EGRADIENT,
                      "the model's output is cut off from its input (detached, computed outside torch, or "
                      "by integers), so it has no gradient");
    }
    auto found = gradients_of(model, {selected.sum()}, {x});
    if (!found[0].defined()) {
        throw Failure(MET_EGRADIENT, "the model's output does not depend on its input, so it has no gradient");
    }
    return found[0];
}

int gradient(void *ctx, met_batch *batch, met_batch *dx, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        Turn turn(model.threads, {Work::Kind::gradient, batch->n});
        at::AutoGradMode on(true);
        at::Tensor source = batch_tensor(*batch);
        auto version = source._version();
        at::Tensor x = to_model(model, source.detach()).requires_grad_();
        at::Tensor outputs = call_model(model, *batch, x);
        batch->modified = source._version() != version;
        refuse_lone(outputs, batch->n);
        at::Tensor selected = select_targets(model, outputs, y->targets, batch->n);
        outputs.reset();
        export_batch(input_gradient(model, selected, x), batch->dtype, dx);
        write_values(selected, y);
    });
}

const char *kernels(void *ctx) {
    return static_cast<Model *>(ctx)->by_blocks ? "gradients of convolutions by blocks" : nullptr;
}

bool watch(void *ctx, bool on) {
    auto &model = *static_cast<Model *>(ctx);
    bool apart = false;
    try {
        apart = !on && model.watch && model.watch->shows_apart();
        model.watch = on ? std::make_shared<Watch>() : nullptr;
    } catch (const std::exception &) { /* nothing was seen then */
        model.watch.reset();
    }
    return apart;
}

size_t state_of(const at::Device &device) {
    at::Generator generator = at::globalContext().defaultGenerator(device);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    const at::Tensor state = generator.get_state();
    return std::hash<std::string_view>()({static_cast<const char *>(state.const_data_ptr()), state.nbytes()});
}

uint64_t drawn(void *ctx) {
    const auto &model = *static_cast<const Model *>(ctx);
    try {
        return state_of(at::kCPU) ^ (model.device.is_cpu() ? 0 : state_of(model.device));
    } catch (const std::exception &) { /* a device without a generator */
        return 0;
    }
}

} // namespace

met_model torch_table(Model *model) {
    /* Half precision is not exact enough for a shortcut. */
    return {model, forward, gradient, model->dtype ? nullptr : &recorded_program, kernels, watch, drawn};
}

} // namespace bridge
