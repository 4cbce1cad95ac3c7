/* SPDX-License-Identifier: Apache-2.0 */
/* What planner and workspace need of every tiling holds for every family, table row and size of chip; and refusals give
 * a reason that names the field. */
#include "families/choice.h"
#include "property.h"
#include "random_batch.h"
#include "schedule/planner.h"

enum { MAX_SMS = 1024 };

static const pod_family *const families[] = {&pod__family_cpu, &pod__family_sm80, &pod__family_sm90,
                                             &pod__family_sm90mla};
enum { NUM_FAMILIES = sizeof families / sizeof families[0] };

static int check_tiling(const pod_tiling *t) {
    PROPERTY(t->num_ctas >= 1 && t->max_slices >= t->num_ctas, "%d CTAs, %d slices", t->num_ctas, t->max_slices);
    PROPERTY(t->max_steady_slices >= t->num_ctas && t->max_steady_slices <= t->max_slices, "%d slices of %d",
             t->max_steady_slices, t->max_slices);
    PROPERTY(t->num_prefill_ctas >= 1 && t->num_prefill_ctas <= t->num_lone_ctas && t->num_lone_ctas <= t->num_ctas,
             "%d and %d of %d CTAs", t->num_prefill_ctas, t->num_lone_ctas, t->num_ctas);
    PROPERTY(t->prefill_tile_rows >= t->decode_rows && t->decode_rows >= 0, "%d rows, %d of decode",
             t->prefill_tile_rows, t->decode_rows);
    PROPERTY(t->prefill_tile_rows > 0 && t->prefill_tile_tokens > 0 && t->decode_tile_tokens > 0,
             "tiles of %d x %d, %d", t->prefill_tile_rows, t->prefill_tile_tokens, t->decode_tile_tokens);
    PROPERTY(t->max_slices <= 32768, "%d slices are more than pod_core_cut() counts", t->max_slices);
    for (int32_t i = 0; i < POD_MAX_SHARES; i++) {
        int32_t shares = pod_core_shares(t, t->num_lone_ctas, i, 1), lone = pod_core_shares(t, t->num_lone_ctas, i, 0);
        PROPERTY(i > 0 || (shares >= 1 && lone >= 1), "no shares");
        PROPERTY(shares <= t->max_parts && lone <= t->max_parts, "%d or %d shares, room for %d", shares, lone,
                 t->max_parts);
    }
    return 0;
}

/** A reason is one sentence that begins with a field of the limits. */
static int check_reason(const char *reason) {
    static const char *const fields[] = {"q_dtype ",      "kv_dtype ",     "out_dtype ",
                                         "head_dim = ",   "v_head_dim = ", "page_size = ",
                                         "tree_masks = ", "alibi = ",      "right_windows = "};
    size_t i = 0, count = sizeof fields / sizeof fields[0];
    while (i < count && strncmp(reason, fields[i], strlen(fields[i])) != 0) i++;
    PROPERTY(i < count, "\"%s\" names no field", reason);
    return 0;
}

static int has_row(const pod_family *family, const pod_limits *limits) {
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        if (variant->family == family && variant->dtype == limits->q_dtype && variant->kv_dtype == limits->kv_dtype &&
            pod__tiles_fit(variant->tiles, limits) &&
            (pod__asks_for_all_masks(limits) == NULL || variant->tiles->job == POD_JOB_padded)) {
            return 1;
        }
    }
    return 0;
}

static int families_case(test_rng *rng, void *context) {
    (void)context;
    const pod_family *family = families[rng_range(rng, 0, NUM_FAMILIES - 1)];
    const pod_tiles *tiles = &family->tiles[rng_range(rng, 0, family->num_tiles - 1)];
    pod_tiling tiling = pod__family_tiling(family, tiles, 1 + rng_log_range(rng, 0, MAX_SMS - 1),
                                           rng_range(rng, 1, tiles->ctas_per_sm));
    if (check_tiling(&tiling) != 0) return 1;

    char reason[192] = "";
    pod_limits limits = random_limits(rng, 1, 1, rng_range(rng, 1, 100));
    if (rng_chance(rng, 60)) random_gpu_elements(rng, &limits);
    limits.page_size = rng_range(rng, 1, 100);
    random_mask_limits(rng, &limits);
    int takes = family->takes(family, &limits, reason, sizeof reason);
    PROPERTY(takes == (*reason == '\0'), "\"%s\"", reason);
    if (!takes) return check_reason(reason);
    PROPERTY(family == &pod__family_cpu || has_row(family, &limits), "%s takes what it has no kernel for",
             family->name);
    return 0;
}

int main(void) {
    return property_run("families", 20000, families_case, NULL);
}
