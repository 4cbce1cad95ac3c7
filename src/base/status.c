/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char error_message[512];

pod_status pod__fail(pod_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_message, sizeof error_message, format, arguments);
    va_end(arguments);
    return status;
}

const char *pod_error_message(void) {
    return error_message;
}

const char *pod_version(void) {
    return POD_VERSION_STRING;
}

const char *pod_status_name(pod_status status) {
    switch (status) {
#define STATUS_NAME(name, value, text)                                                                                 \
    case name:                                                                                                         \
        return #name;
        POD_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
    }
    return "POD_E_?";
}

const char *pod_status_text(pod_status status) {
    switch (status) {
#define STATUS_TEXT(name, value, text)                                                                                 \
    case name:                                                                                                         \
        return text;
        POD_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "an unknown status";
}
