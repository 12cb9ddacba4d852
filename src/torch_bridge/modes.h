/* modes.h - the modes of torch that an operator of a program was recorded in. */
#ifndef METEORS_C_MODES_H
#define METEORS_C_MODES_H

#include "program.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace bridge {

/* Sets them while a node is run. */
class Modes {
  public:
    Modes(const Node &node, at::DeviceType device)
        : device_(device), was_(at::autocast::is_autocast_enabled(device)),
          dtype_(at::autocast::get_autocast_dtype(device)),
          grad_(at::GradMode::is_enabled() && node.mode.get_grad_mode()) {
        if (node.autocast != was_ || (node.autocast && node.autocast_dtype != dtype_)) {
            set(node.autocast, node.autocast_dtype);
            changed_ = true;
        }
    }
    ~Modes() {
        if (changed_) {
            set(was_, dtype_);
        }
    }
    Modes(const Modes &) = delete;
    Modes &operator=(const Modes &) = delete;

  private:
    void set(bool enabled, at::ScalarType dtype) {
        at::autocast::set_autocast_dtype(device_, dtype);
        at::autocast::set_autocast_enabled(device_, enabled);
        at::autocast::clear_cache();
    }
    at::DeviceType device_;
    bool was_;
    at::ScalarType dtype_;
    bool changed_ = false;
    at::AutoGradMode grad_;
};

} // namespace bridge

#endif
