/* SPDX-License-Identifier: Apache-2.0 */
/* Several host threads with their own plans on one device at the same time: each gets the bits it gets alone. */
#include "attention_case.h"
#include "property.h"

#include <pthread.h>

enum { NUM_CALLERS = 4, CALLS = 3, MAX_WORK = 1 << 20 };

typedef struct caller {
    pthread_t thread;
    attention_case made;
    pod_device *device;
    unsigned char *alone; /**< out, then lse */
    int num_wrong;
} caller;

static int has_bits(const attention_case *made, const unsigned char *bits) {
    return memcmp(made->out.data, bits, made->out.bytes) == 0 &&
           memcmp(made->lse.data, bits + made->out.bytes, made->lse.bytes) == 0;
}

static void *call_again(void *context) {
    caller *caller = context;
    for (int i = 0; i < CALLS; i++) {
        attention_case_poison(&caller->made);
        pod_status status = attention_case_run(&caller->made, caller->device);
        caller->num_wrong += status != POD_OK || !has_bits(&caller->made, caller->alone);
    }
    return NULL;
}

static int make_caller(caller *caller, test_rng *rng, pod_device *device) {
    attention_case *made = &caller->made;
    caller->device = device;
    PROPERTY(attention_case_make(made, rng, MAX_WORK), "no memory");
    PROPERTY(attention_case_run(made, device) == POD_OK, "%s", pod_error_message());
    caller->alone = malloc(made->out.bytes + made->lse.bytes + 1);
    PROPERTY(caller->alone != NULL, "no memory");
    memcpy(caller->alone, made->out.data, made->out.bytes);
    memcpy(caller->alone + made->out.bytes, made->lse.data, made->lse.bytes);
    return 0;
}

static int shared_device_case(test_rng *rng, void *context) {
    caller callers[NUM_CALLERS] = {0};
    for (int i = 0; i < NUM_CALLERS; i++) {
        if (make_caller(&callers[i], rng, context)) return 1;
    }
    for (int i = 0; i < NUM_CALLERS; i++) {
        PROPERTY(pthread_create(&callers[i].thread, NULL, call_again, &callers[i]) == 0, "no threads");
    }
    int num_wrong = 0;
    for (int i = 0; i < NUM_CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        num_wrong += callers[i].num_wrong;
        free(callers[i].alone);
        attention_case_free(&callers[i].made);
    }
    PROPERTY(num_wrong == 0, "%d calls had other results than alone", num_wrong);
    return 0;
}

int main(void) {
    pod_device *device = NULL;
    if (pod_device_open("cpu:2", &device) != POD_OK) {
        fprintf(stderr, "%s\n", pod_error_message());
        return EXIT_FAILURE;
    }
    int code = property_run("shared_device", 60, shared_device_case, device);
    pod_device_close(device);
    return code;
}
