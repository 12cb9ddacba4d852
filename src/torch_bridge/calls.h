/* calls.h - recorded calls of operators: which of them can't be run again, and whether two have the same arguments. */
#ifndef METEORS_C_CALLS_H
#define METEORS_C_CALLS_H

#include "trace.h"

namespace bridge {

/* The name of the function that an operator computes: "relu" for aten::relu_. */
std::string function_name(const c10::OperatorHandle &op);

/* The place of an argument by its name in the operator's schema, -1. */
int argument_named(const Step &step, const char *name);

/* Whether an operator computes a function of each value. */
bool is_pointwise(const std::string &function, const c10::OperatorHandle &op);

/* Whether it passes values on as they are, a dropout outside of training among them. */
bool passes_on(const std::string &function);

/* Declines a shortcut because of a call, whose operator it names. */
[[noreturn]] void decline(const Step &step, const std::string &why, met_decline reason = MET_DECLINE_STRUCTURE);

/* Declines for what is wrong with a call of a run, whatever it computes of. */
void check_call(const Trace &run, const Step &step);

/* Declines for what is wrong with a call that computes of the input. */
void check_dependent_call(const Step &step);

/* Whether constant tensors are the same, NaN equal to NaN. */
bool same_values(const at::Tensor &a, const at::Tensor &b);

/* Whether arguments that are no tensors are the same. */
bool same_others(const c10::IValue &a, const c10::IValue &b);

} // namespace bridge

#endif
