/* SPDX-License-Identifier: Apache-2.0 */
#include "base/struct.h"

#include "base/status.h"

enum { MAX_LAYOUTS = sizeof((pod_struct_layouts *)0)->sizes / sizeof(size_t) };

/* No version will have a larger struct: such a size was never set, and its bytes are not the caller's. */
enum { MAX_STRUCT_BYTES = 1 << 16 };

static size_t newest_size(const pod_struct_layouts *layouts) {
    size_t newest = 0;
    for (int i = 0; i < MAX_LAYOUTS && layouts->sizes[i] != 0; i++) newest = layouts->sizes[i];
    return newest;
}

/** Whether some version had this size; all that are larger than this library's may come. */
static int is_known(const pod_struct_layouts *layouts, size_t size) {
    for (int i = 0; i < MAX_LAYOUTS; i++) {
        if (layouts->sizes[i] != 0 && layouts->sizes[i] == size) return 1;
    }
    return size > newest_size(layouts) && size <= MAX_STRUCT_BYTES;
}

static pod_status read_size(const pod_struct_layouts *layouts, const char *field, const void *given, size_t *size) {
    if (given == NULL) return pod__fail(POD_E_ARGUMENT, "%s is NULL", field);
    memcpy(size, given, sizeof *size);
    if (is_known(layouts, *size)) return POD_OK;
    return pod__fail(POD_E_ARGUMENT,
                     "%s.struct_size = %zu is not a size of this struct (%zu); start from pod_%s_init()", field, *size,
                     newest_size(layouts), layouts->name);
}

pod_status pod__take_struct_of(const pod_struct_layouts *layouts, const char *field, const void *given, void *copy) {
    size_t size = 0, known = newest_size(layouts);
    POD_TRY(read_size(layouts, field, given, &size));
    for (size_t i = known; i < size; i++) {
        if (((const char *)given)[i] == 0) continue;
        return pod__fail(POD_E_UNSUPPORTED,
                         "%s sets a field at byte %zu that podattn %s does not know (its %s has %zu bytes)", field, i,
                         POD_VERSION_STRING, layouts->name, known);
    }
    memset(copy, 0, known);
    memcpy(copy, given, size < known ? size : known);
    memcpy(copy, &known, sizeof known);
    return POD_OK;
}

pod_status pod__take_struct(const pod_struct_layouts *layouts, const void *given, void *copy) {
    return pod__take_struct_of(layouts, layouts->name, given, copy);
}

pod_status pod__give_struct(const pod_struct_layouts *layouts, const void *made, void *given) {
    size_t size = 0, known = newest_size(layouts);
    POD_TRY(read_size(layouts, layouts->name, given, &size));
    memcpy(given, made, size < known ? size : known);
    if (size > known) memset((char *)given + known, 0, size - known);
    memcpy(given, &size, sizeof size);
    return POD_OK;
}
