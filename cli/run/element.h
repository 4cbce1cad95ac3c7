/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of the three dtypes as floats and back, rounded to nearest even. For filling and checking, not for speed. */
#ifndef CLI_ELEMENT_H
#define CLI_ELEMENT_H

#include "podattn.h"

float element_load(const void *array, pod_dtype dtype, int64_t index);
/** `value` must not be a NaN; what is too large becomes infinite. */
void element_store(void *array, pod_dtype dtype, int64_t index, float value);

#endif
