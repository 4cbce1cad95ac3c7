/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend against the oracle on random hybrid batches, with each instruction set that this machine has; the
 * same bits from any number of threads and from every run. */
#include "attention_case.h"
#include "property.h"

enum { MAX_ISAS = 8, NUM_THREAD_COUNTS = 3, MAX_WORK = 8 << 20 };

typedef struct isa_devices {
    const char *isa;
    pod_device *devices[NUM_THREAD_COUNTS];
    pod_errors worst; /**< of all cases, each as a fraction of its bound */
    int num_cases;
    int num_hybrid, num_split_prefill, num_split_decode; /**< of the cases: what the plan had to do */
} isa_devices;

typedef struct machine {
    isa_devices isas[MAX_ISAS];
    int num_isas;
} machine;

static void open_isas(machine *machine) {
    static const char *const isas[] = {"generic", "avx2", "avx512", "avx512-bf16"};
    static const int threads[NUM_THREAD_COUNTS] = {1, 2, 5};
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        isa_devices *made = &machine->isas[machine->num_isas];
        made->isa = isas[i];
        int opened = 0;
        for (int t = 0; t < NUM_THREAD_COUNTS; t++) {
            char name[64];
            snprintf(name, sizeof name, "cpu:%d,isa=%s", threads[t], isas[i]);
            opened += pod_device_open(name, &made->devices[t]) == POD_OK;
        }
        if (opened == NUM_THREAD_COUNTS) machine->num_isas++;
    }
}

static void keep_worst(double *worst, double error, double bound) {
    if (error / bound > *worst) *worst = error / bound;
}

/** Runs on `device`, which must give the bits in `bits`. */
static int check_same_bits(attention_case *made, pod_device *device, const unsigned char *bits, const char *text) {
    attention_case_poison(made);
    PROPERTY(attention_case_run(made, device) == POD_OK, "%s: %s", text, pod_error_message());
    PROPERTY(memcmp(made->out.data, bits, made->out.bytes) == 0, "%s: other bits in out", text);
    PROPERTY(memcmp(made->lse.data, bits + made->out.bytes, made->lse.bytes) == 0, "%s: other bits in lse", text);
    return 0;
}

static void count_case(isa_devices *isa, const attention_case *made) {
    const pod_plan_info *info = &made->plan_info;
    isa->num_cases++;
    isa->num_hybrid += info->num_prefill_requests > 0 && info->num_decode_requests > 0;
    isa->num_split_prefill += info->num_prefill_splits > 0;
    isa->num_split_decode += info->num_decode_items > (int64_t)info->num_decode_requests * made->limits.kv_heads;
}

static int check_case(attention_case *made, test_rng *rng, isa_devices *isa, unsigned char *bits, const char *text) {
    int first = rng_range(rng, 0, NUM_THREAD_COUNTS - 1);
    PROPERTY(attention_case_run(made, isa->devices[first]) == POD_OK, "%s: %s", text, pod_error_message());
    memcpy(bits, made->out.data, made->out.bytes);
    memcpy(bits + made->out.bytes, made->lse.data, made->lse.bytes);
    for (int t = 0; t < NUM_THREAD_COUNTS; t++) {
        if (check_same_bits(made, isa->devices[t], bits, text)) return 1;
    }
    PROPERTY(attention_case_expect(made) == POD_OK, "%s: %s", text, pod_error_message());
    pod_errors error = attention_case_compare(made), bound = attention_case_bound(made);
    PROPERTY(error.whole <= bound.whole, "%s, %s: %.3g > %.3g", isa->isa, text, error.whole, bound.whole);
    PROPERTY(error.worst_row <= bound.worst_row, "%s, %s: %.3g > %.3g", isa->isa, text, error.worst_row,
             bound.worst_row);
    PROPERTY(error.lse <= bound.lse, "%s, %s: %.3g > %.3g", isa->isa, text, error.lse, bound.lse);
    PROPERTY(attention_case_gaps_intact(made), "%s, %s: written between the rows", isa->isa, text);
    keep_worst(&isa->worst.whole, error.whole, bound.whole);
    keep_worst(&isa->worst.worst_row, error.worst_row, bound.worst_row);
    keep_worst(&isa->worst.lse, error.lse, bound.lse);
    count_case(isa, made);
    return 0;
}

static int attention_property(test_rng *rng, void *context) {
    machine *machine = context;
    attention_case made;
    char text[512];
    PROPERTY(attention_case_make(&made, rng, MAX_WORK), "no memory");
    attention_case_describe(&made, text, sizeof text);
    unsigned char *bits = malloc(made.out.bytes + made.lse.bytes + 1);
    PROPERTY(bits != NULL, "no memory");
    int failed = check_case(&made, rng, &machine->isas[rng_range(rng, 0, machine->num_isas - 1)], bits, text);
    free(bits);
    attention_case_free(&made);
    return failed;
}

int main(void) {
    machine machine = {0};
    open_isas(&machine);
    if (machine.num_isas == 0) {
        fprintf(stderr, "no CPU device opens: %s\n", pod_error_message());
        return EXIT_FAILURE;
    }
    int code = property_run("attention", 7000, attention_property, &machine);
    for (int i = 0; i < machine.num_isas; i++) {
        isa_devices *isa = &machine.isas[i];
        printf("  %-12s %4d cases (%d hybrid, %d with split prefill, %d with split decode); "
               "errors / bounds: whole %.2f, row %.2f, LSE %.2f\n",
               isa->isa, isa->num_cases, isa->num_hybrid, isa->num_split_prefill, isa->num_split_decode,
               isa->worst.whole, isa->worst.worst_row, isa->worst.lse);
        for (int t = 0; t < NUM_THREAD_COUNTS; t++) pod_device_close(isa->devices[t]);
    }
    return code;
}
