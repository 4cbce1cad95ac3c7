/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a file of batches: batches that hold what the format promises and come back as they were written, or a
 * line that says what is wrong. */
#include "fuzz_error_line.h"
#include "input/batch_file.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_REQUESTS = 4096 };

static void check_batch(const named_batch *batch) {
    const batch_spec *spec = &batch->spec;
    FUZZ_CHECK(batch->name[0] != '\0' && strpbrk(batch->name, ";/\n") == NULL, "the name %s was taken", batch->name);
    FUZZ_CHECK(spec->kv_heads > 0 && spec->q_heads % spec->kv_heads == 0, "%d over %d heads", spec->q_heads,
               spec->kv_heads);
    FUZZ_CHECK(spec->head_dim % 8 == 0 && spec->window_tokens >= 0, "head_dim %d, window %d", spec->head_dim,
               spec->window_tokens);
    for (int32_t r = 0; r < spec->num_requests; r++) {
        FUZZ_CHECK(spec->requests[r].q_len <= spec->requests[r].kv_len, "request %d has more queries than keys", r);
        FUZZ_CHECK(r == 0 || spec->requests[r].q_len <= spec->requests[r - 1].q_len, "request %d is out of order", r);
    }
}

static void check_again(const batch_list *list) {
    char *text = NULL;
    size_t bytes;
    batch_list again = {.batches = NULL};
    cli_error error = {""};
    FILE *file = open_memstream(&text, &bytes);
    FUZZ_CHECK(file != NULL, "no memory");
    fprintf(file, "%s\n", BATCH_FILE_HEADING);
    for (int32_t i = 0; i < list->count; i++)
        batch_file_write_line(list->batches[i].name, &list->batches[i].spec, file);
    fclose(file);
    FUZZ_CHECK(batch_file_parse(text, bytes, "again", &again, &error) == CLI_OK, "%s", error.line);
    FUZZ_CHECK(again.count == list->count, "%d batches became %d", list->count, again.count);
    for (int32_t i = 0; i < list->count; i++) {
        const batch_spec *a = &list->batches[i].spec, *b = &again.batches[i].spec;
        FUZZ_CHECK(a->num_requests == b->num_requests &&
                       memcmp(a->requests, b->requests, (size_t)a->num_requests * sizeof *a->requests) == 0,
                   "batch %d has other requests", i);
    }
    batch_list_free(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    batch_list list = {.batches = NULL};
    cli_error error = {""};
    cli_exit code = batch_file_parse((const char *)data, size, "file", &list, &error);
    int32_t num_requests = 0;
    for (int32_t i = 0; i < list.count; i++) {
        check_batch(&list.batches[i]);
        num_requests +=
            list.batches[i].spec.num_requests < MAX_REQUESTS ? list.batches[i].spec.num_requests : MAX_REQUESTS;
    }
    if (code != CLI_OK) {
        fuzz_check_refusal(code, &error, "file");
    } else if (num_requests < MAX_REQUESTS) {
        check_again(&list);
    }
    batch_list_free(&list);
    return 0;
}
