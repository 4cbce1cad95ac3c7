/* SPDX-License-Identifier: Apache-2.0 */
#include "families/choice.h"

#include "base/status.h"
#include "schedule/schedule_core.h"

#include <stdio.h>

enum { REASON_BYTES = 192, HEAD_DIM_STEP = 8, RESERVED_SMEM_BYTES = 1024 /* of each CTA's, the driver's */ };

int pod__family_runs(const pod_family *family, const pod_chip *chip, char *reason, size_t bytes) {
    if (chip->capability < family->min_capability || chip->capability > family->max_capability) {
        snprintf(reason, bytes, "the chip's compute capability is %d.%d, not %d.%d%s", chip->capability / 10,
                 chip->capability % 10, family->min_capability / 10, family->min_capability % 10,
                 family->max_capability > family->min_capability ? " or later" : "");
        return 0;
    }
    if (!family->needs_tensor_maps || chip->has_tensor_maps) return 1;
    snprintf(reason, bytes, "the driver is too old: it has no cuTensorMapEncodeTiled");
    return 0;
}

void pod__chip_estimate(pod_chip *chip, int32_t sm_smem_bytes, int32_t cta_smem_bytes) {
    char reason[REASON_BYTES];
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_tiles *tiles = pod__variants[i].tiles;
        int runs = pod__family_runs(pod__variants[i].family, chip, reason, sizeof reason);
        int32_t fit =
            tiles->smem_bytes <= cta_smem_bytes ? sm_smem_bytes / (tiles->smem_bytes + RESERVED_SMEM_BYTES) : 0;
        /* Each kernel is compiled to leave registers for as many CTAs as it is made for. */
        chip->resident_ctas[i] = runs ? pod_core_min(fit, tiles->ctas_per_sm) : 0;
    }
}

static int fits_options(const pod_variant *variant, const pod_gpu_options *options) {
    if (options->family != NULL && options->family != variant->family) return 0;
    if (options->ctas_per_sm != 0 && options->ctas_per_sm != variant->tiles->ctas_per_sm) return 0;
    if (options->policy != POD_POLICY_ANY && !variant->family->has_policies) return 0;
    return options->job == variant->tiles->job ||
           (options->job == POD_JOB_fused && variant->tiles->job == POD_JOB_padded);
}

static int has_all_masks(const pod_variant *variant) {
    return variant->family->has_all_masks && variant->tiles->job == POD_JOB_padded;
}

/** `limits` NULL: whatever they are. */
static int fits_limits(const pod_variant *variant, const pod_limits *limits) {
    if (limits == NULL) return 1;
    if (pod__asks_for_all_masks(limits) != NULL && !has_all_masks(variant)) return 0;
    return variant->dtype == limits->q_dtype && variant->kv_dtype == limits->kv_dtype &&
           pod__tiles_fit(variant->tiles, limits);
}

/** Whether the family has a row for them at all. */
static int has_row(const pod_family *family, const pod_gpu_options *options, const pod_limits *limits) {
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        if (variant->family == family && fits_options(variant, options) && fits_limits(variant, limits)) return 1;
    }
    return 0;
}

/** Whether two rows differ only in how many CTAs share an SM. */
static int are_alike(const pod_variant *a, const pod_variant *b) {
    return a->tiles->job == b->tiles->job && a->dtype == b->dtype && a->kv_dtype == b->kv_dtype &&
           a->tiles->head_dim == b->tiles->head_dim;
}

/** The family's row for them on this chip; -1 if none. */
static int32_t find_row(const pod_family *family, const pod_chip *chip, const pod_gpu_options *options,
                        const pod_limits *limits) {
    int32_t best = -1;
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        if (variant->family != family || chip->resident_ctas[i] == 0) continue;
        if (!fits_options(variant, options) || !fits_limits(variant, limits)) continue;
        if (best >= 0 && !are_alike(&pod__variants[best], variant)) continue;
        if (best >= 0 && chip->resident_ctas[i] <= chip->resident_ctas[best]) continue;
        best = i;
        if (chip->resident_ctas[i] >= variant->tiles->ctas_per_sm) return i;
    }
    return best;
}

/** CTAs of a row on an SM: as many as it is made for, or as fit. */
static int32_t row_ctas_per_sm(int32_t row, const pod_chip *chip) {
    return pod_core_min(pod__variants[row].tiles->ctas_per_sm, chip->resident_ctas[row]);
}

static pod_tiling row_tiling(int32_t row, const pod_chip *chip) {
    const pod_variant *variant = &pod__variants[row];
    return pod__family_tiling(variant->family, variant->tiles, chip->num_sms, row_ctas_per_sm(row, chip));
}

/** Why a family was passed over. */
typedef enum passed_over { PASSED_BY_CHIP, PASSED_BY_OPTIONS, PASSED_BY_LIMITS, PASSED_BY_LOADING } passed_over;

/** "head_dim = 64", "head_dim = 192, v_head_dim = 128". */
static void describe_dims(const pod_limits *limits, char *text, size_t bytes) {
    int32_t v_head_dim = pod__v_head_dim(limits);
    size_t length = (size_t)snprintf(text, bytes, "head_dim = %d", limits->head_dim);
    if (v_head_dim != limits->head_dim) snprintf(text + length, bytes - length, ", v_head_dim = %d", v_head_dim);
}

/** The family's row, or -1 and why. */
static int32_t ask_family(const pod_family *family, const pod_chip *chip, const pod_gpu_options *options,
                          const pod_limits *limits, passed_over *why, char reason[REASON_BYTES]) {
    *why = PASSED_BY_CHIP;
    if (!pod__family_runs(family, chip, reason, REASON_BYTES)) return -1;
    *why = PASSED_BY_OPTIONS;
    snprintf(reason, REASON_BYTES, "the options of the device's name ask for another kernel");
    if (!has_row(family, options, NULL)) return -1;
    *why = PASSED_BY_LIMITS;
    if (!family->takes(family, limits, reason, REASON_BYTES)) return -1;
    char dims[48];
    const char *asks = pod__asks_for_all_masks(limits);
    describe_dims(limits, dims, sizeof dims);
    snprintf(reason, REASON_BYTES, "%s, kv_dtype %s%s%s is not supported by the %s kernels with the device's options",
             dims, pod_dtype_name(limits->kv_dtype), asks != NULL ? " with " : "", asks != NULL ? asks : "",
             family->name);
    if (!has_row(family, options, limits)) return -1;
    *why = PASSED_BY_LOADING;
    snprintf(reason, REASON_BYTES, "the %s kernel for q_dtype %s, kv_dtype %s, %s does not load on this chip",
             family->name, pod_dtype_name(limits->q_dtype), pod_dtype_name(limits->kv_dtype), dims);
    return find_row(family, chip, options, limits);
}

pod_status pod__choose_kernel(const pod_chip *chip, const pod_gpu_options *options, const pod_limits *limits,
                              pod_choice *choice) {
    char refusal[REASON_BYTES] = "no kernel runs on this chip";
    *choice = (pod_choice){.kernel = -1};
    for (int32_t i = 0; i < POD_NUM_GPU_FAMILIES; i++) {
        const pod_family *family = pod__gpu_families[i];
        char reason[REASON_BYTES];
        passed_over why;
        if (family->is_special && options->family != family && !pod__family_fits(family, limits)) continue;
        int32_t row = ask_family(family, chip, options, limits, &why, reason);
        if (row >= 0) {
            choice->kernel = row;
            choice->tiling = row_tiling(row, chip);
            if (family->is_special) choice->note[0] = '\0'; /* no other family is made for this */
            snprintf(choice->kernel_name, sizeof choice->kernel_name, "%s", pod__variants[row].kernel);
            return POD_OK;
        }
        if (i == 0) snprintf(choice->note, sizeof choice->note, "%s: %s", family->name, reason);
        if (why >= PASSED_BY_LIMITS) snprintf(refusal, sizeof refusal, "%s", reason); /* the slower takes more */
        if (why >= PASSED_BY_LIMITS && family->is_special) break;                     /* but nothing of this kind */
    }
    if (options->family == NULL) return pod__fail(POD_E_UNSUPPORTED, "%s", refusal);
    return pod__fail(POD_E_UNSUPPORTED, "%s (the device's name asks for kernel=%s)", refusal, options->family->name);
}

pod_status pod__choice_check_mask(const pod_choice *choice, const char *field, const char *limit) {
    if (choice->kernel < 0 || has_all_masks(&pod__variants[choice->kernel])) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED,
                     "%s is not supported by the %s kernel of this plan; limits with %s = 1 ask for one that has it",
                     field, pod__variants[choice->kernel].family->name, limit);
}

pod_status pod__choice_check_masks(const pod_choice *choice, const pod_mask *masks, int32_t num_masks) {
    for (int32_t m = 0; m < num_masks; m++) {
        char field[64];
        if (masks[m].right_window_tokens == 0) continue;
        snprintf(field, sizeof field, "masks[%d].right_window_tokens = %d", m, masks[m].right_window_tokens);
        POD_TRY(pod__choice_check_mask(choice, field, "right_windows"));
    }
    return POD_OK;
}

pod_status pod__choose_cpu(const char *kernel_name, const pod_limits *limits, pod_choice *choice) {
    char refusal[REASON_BYTES];
    *choice = (pod_choice){.kernel = -1, .tiling = pod__cpu_tiling()};
    snprintf(choice->kernel_name, sizeof choice->kernel_name, "%s", kernel_name);
    if (pod__family_cpu.takes(&pod__family_cpu, limits, refusal, sizeof refusal)) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s", refusal);
}

/** The first row that the device may choose, whatever the limits; -1 if none. */
static int32_t first_row(const pod_chip *chip, const pod_gpu_options *options) {
    int32_t row = -1;
    for (int32_t i = 0; i < POD_NUM_GPU_FAMILIES && row < 0; i++) {
        const pod_family *family = pod__gpu_families[i];
        if (family->is_special && options->family != family) continue;
        row = find_row(family, chip, options, NULL);
    }
    return row;
}

pod_status pod__check_chip(const pod_chip *chip, const pod_gpu_options *options, const char *chip_name) {
    if (first_row(chip, options) >= 0) return POD_OK;
    return pod__fail(POD_E_NO_DEVICE,
                     "this library has no kernel of that name's options for %s (compute capability %d.%d)", chip_name,
                     chip->capability / 10, chip->capability % 10);
}

const pod_family *pod__chip_family(const pod_chip *chip, const pod_gpu_options *options, int32_t *num_ctas) {
    int32_t row = first_row(chip, options);
    *num_ctas = row_tiling(row, chip).num_ctas;
    return pod__variants[row].family;
}

/** That it is chosen for: where heads fill the tiles, another kernel may come first. */
static int32_t largest_head_dim(const pod_variant *variant) {
    int32_t head_dim = variant->tiles->head_dim;
    if (variant->tiles->job != POD_JOB_padded) return head_dim;
    for (const pod_variant *first = pod__variants; first < variant; first++) {
        if (first->family == variant->family && first->dtype == variant->dtype &&
            first->kv_dtype == variant->kv_dtype && first->tiles->job == POD_JOB_fused &&
            first->tiles->head_dim == head_dim)
            return head_dim - HEAD_DIM_STEP;
    }
    return head_dim;
}

void pod__chip_visit(const pod_chip *chip, int (*visit)(void *context, const pod_kernel_info *info), void *context) {
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        const pod_variant *variant = &pod__variants[i];
        if (chip->resident_ctas[i] == 0) continue;
        pod_kernel_info info = pod__family_kernel_info(variant->family, row_ctas_per_sm(i, chip));
        snprintf(info.name, sizeof info.name, "%s", variant->kernel);
        info.dtype = variant->dtype;
        info.kv_dtype = variant->kv_dtype;
        info.head_dim = largest_head_dim(variant);
        info.v_head_dim = variant->tiles->v_head_dim;
        info.ctas_per_sm = variant->tiles->ctas_per_sm;
        size_t length = (size_t)snprintf(info.options, sizeof info.options, "kernel=%s", variant->family->name);
        if (variant->tiles->job == POD_JOB_hfuse) {
            snprintf(info.options + length, sizeof info.options - length, ",fusion=hfuse");
        } else if (info.ctas_per_sm > 1) {
            snprintf(info.options + length, sizeof info.options - length, ",ctas=%d", info.ctas_per_sm);
        }
        if (visit(context, &info) != 0) return;
    }
}
