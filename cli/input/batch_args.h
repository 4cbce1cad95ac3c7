/* SPDX-License-Identifier: Apache-2.0 */
/* [batch] on the command line: the options that describe one hybrid batch. */
#ifndef CLI_BATCH_ARGS_H
#define CLI_BATCH_ARGS_H

#include "input/batch_spec.h"
#include "input/options.h"

/** Model, heads, dtype, page size, masks and seed. */
option_group batch_args_shape(batch_spec *spec);

/** --prefill, --decode and --batch. */
option_group batch_args_requests(batch_spec *spec);

#endif
