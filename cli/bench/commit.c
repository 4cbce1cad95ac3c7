/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/commit.h"

#include "built_commit.h"

#include <stdlib.h>

const char *bench_commit(void) {
    const char *given = getenv("PODATTN_COMMIT");
    return given != NULL && *given != '\0' ? given : BUILT_COMMIT;
}
