/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a request trace: requests within the promised ranges, or a line that says what is wrong. */
#include "fuzz_error_line.h"
#include "input/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_requests(const trace *trace) {
    FUZZ_CHECK(trace->num_requests > 0, "an empty trace was taken");
    int32_t line = 0;
    for (int32_t i = 0; i < trace->num_requests; i++) {
        const trace_request *request = &trace->requests[i];
        FUZZ_CHECK(request->prefill_tokens >= 1 && request->prefill_tokens <= TRACE_MAX_TOKENS, "%d prompt tokens",
                   request->prefill_tokens);
        FUZZ_CHECK(request->decode_tokens >= 0 && request->decode_tokens <= TRACE_MAX_TOKENS, "%d generated tokens",
                   request->decode_tokens);
        FUZZ_CHECK(request->line > line, "line %d follows line %d", request->line, line);
        line = request->line;
    }
    trace_means means = trace_mean_tokens(trace);
    FUZZ_CHECK(means.prefill_tokens >= 1 && means.decode_tokens >= 0, "means %g and %g", means.prefill_tokens,
               means.decode_tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    trace trace = {0};
    cli_error error = {""};
    cli_exit code = trace_parse((const char *)data, size, "trace", &trace, &error);
    if (code == CLI_OK) {
        check_requests(&trace);
    } else {
        fuzz_check_refusal(code, &error, "trace");
    }
    trace_free(&trace);
    return 0;
}
