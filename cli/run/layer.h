/* SPDX-License-Identifier: Apache-2.0 */
/* All that pod_attention() reads and writes of one layer. */
#ifndef CLI_LAYER_H
#define CLI_LAYER_H

#include "podattn.h"

typedef struct layer {
    pod_tensors tensors;
    pod_cache cache;
} layer;

static inline layer layer_init(void) {
    layer made = {pod_tensors_init(), pod_cache_init()};
    return made;
}

#endif
