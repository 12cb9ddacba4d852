/* target.c - which output is explained. */
#include "model.h"

#include <stdio.h>

/* "(3, 10)" into text. */
static void shape_text(const int64_t *shape, int axes, char *text, size_t capacity) {
    size_t used = (size_t)snprintf(text, capacity, "(n");
    for (int a = 0; a < axes && used < capacity; a++) {
        used += (size_t)snprintf(text + used, capacity - used, ", %lld", (long long)shape[a]);
    }
    if (used < capacity) {
        snprintf(text + used, capacity - used, ")");
    }
}

int met_target_resolve(const met_target *target, const int64_t *shape, int axes, size_t *flat) {
    char text[160];
    size_t position = 0;
    shape_text(shape, axes, text, sizeof text);
    if (target->axes == 0) {
        int64_t outputs = 1;
        for (int a = 0; a < axes; a++) {
            outputs *= shape[a];
        }
        if (outputs != 1) {
            return met_fail(MET_EVALUE,
                            "target=None needs a model with one output per sample, but its outputs are %s: "
                            "give target, an index into the axes behind the first",
                            text);
        }
        *flat = 0;
        return MET_OK;
    }
    /* A single index into (n,) outputs may only be 0: one number per sample is output 0. */
    if (axes == 0 && target->axes == 1 && (target->index[0] == 0 || target->index[0] == -1)) {
        *flat = 0;
        return MET_OK;
    }
    /* Trailing axes of size 1 need no index. */
    while (axes > target->axes && shape[axes - 1] == 1) {
        axes--;
    }
    if (target->axes != axes) {
        return met_fail(MET_EVALUE,
                        "target must name one output: it has %d %s, but the model's outputs are %s, "
                        "which takes %d",
                        target->axes, target->axes == 1 ? "index" : "indices", text, axes);
    }
    for (int a = 0; a < axes; a++) {
        int64_t index = target->index[a];
        if (index < -shape[a] || index >= shape[a]) {
            return met_fail(MET_EINDEX, "target %lld is out of range: the model has %lld outputs there (shape %s)",
                            (long long)index, (long long)shape[a], text);
        }
        position = position * (size_t)shape[a] + (size_t)(index < 0 ? index + shape[a] : index);
    }
    *flat = position;
    return MET_OK;
}
