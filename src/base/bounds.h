/* SPDX-License-Identifier: Apache-2.0 */
/* How much limits may ask for, where room is made for it before they are known. */
#ifndef POD_BASE_BOUNDS_H
#define POD_BASE_BOUNDS_H

/** Elements of the widest heads: keys of DeepSeek's latent attention. */
enum { POD_MAX_HEAD_DIM = 576 };

#endif
