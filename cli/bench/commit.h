/* SPDX-License-Identifier: Apache-2.0 */
/* Which version of the sources is measured. */
#ifndef CLI_COMMIT_H
#define CLI_COMMIT_H

/** The environment's PODATTN_COMMIT, or what git said when this was built, or "unknown". Never NULL. */
const char *bench_commit(void);

#endif
