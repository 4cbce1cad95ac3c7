/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this build has the baselines of the POD-Attention paper: -DPODATTN_BASELINES=ON. */
#ifndef CLI_BASELINES_H
#define CLI_BASELINES_H

#ifdef POD_BASELINES
enum { HAS_BASELINES = 1 };
#else
enum { HAS_BASELINES = 0 };
#endif

#endif
