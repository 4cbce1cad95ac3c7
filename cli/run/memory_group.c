/* SPDX-License-Identifier: Apache-2.0 */
#include "run/memory_group.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PATH = 1024, MAX_FILE_PATH = MAX_PATH + 64 };

/** How a version calls things. */
typedef struct group_version {
    const char *folder; /**< below the root */
    const char *limit, *usage, *unused_files;
} group_version;

static const group_version version_1 = {"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                        "total_inactive_file %lf"};
static const group_version version_2 = {"", "memory.max", "memory.current", "inactive_file %lf"};

double memory_read_number(const char *path, const char *format) {
    FILE *file = fopen(path, "r");
    if (file == NULL) return HUGE_VAL;
    char line[256];
    double value = HUGE_VAL;
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, format, &value) != 1) continue;
    fclose(file);
    return value;
}

static double read_file(const char *folder, const char *name, const char *format) {
    char path[MAX_FILE_PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return memory_read_number(path, format);
}

/** Of one group alone. */
static double left_in(const group_version *version, const char *folder) {
    double limit = read_file(folder, version->limit, "%lf"); /* "max" scans as no number */
    double usage = read_file(folder, version->usage, "%lf");
    double unused = read_file(folder, "memory.stat", version->unused_files);
    if (!isfinite(limit) || !isfinite(usage)) return HUGE_VAL;
    return fmax(limit - usage + (isfinite(unused) ? unused : 0), 0);
}

/** Of a group and those above it. In a container the group's path may be the host's, of which only the root is here. */
static double left_upward(const group_version *version, const char *root, const char *group) {
    char folder[MAX_PATH];
    size_t top = strlen(root) + strlen(version->folder);
    if (snprintf(folder, sizeof folder, "%s%s%s", root, version->folder, group) >= (int)sizeof folder) return HUGE_VAL;
    double left = HUGE_VAL;
    for (char *slash; (slash = strrchr(folder + top, '/')) != NULL; *slash = '\0') {
        left = fmin(left, left_in(version, folder));
    }
    return fmin(left, left_in(version, folder));
}

static int has_name(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; *at != '\0'; at += at[strcspn(at, ",")] == ',' ? strcspn(at, ",") + 1 : strlen(at)) {
        if (strcspn(at, ",") == length && memcmp(at, name, length) == 0) return 1;
    }
    return 0;
}

double memory_group_left(const char *membership, const char *root) {
    FILE *file = fopen(membership, "r");
    if (file == NULL) return HUGE_VAL;
    double left = HUGE_VAL;
    char line[MAX_PATH];
    while (fgets(line, sizeof line, file) != NULL) { /* "4:memory:/group", or "0::/group" of version 2 */
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (strstr(group, "..") != NULL) *group = '\0'; /* it is outside of what a container sees */
        int is_version_2 = controllers[1] == '\0';
        if (!is_version_2 && !has_name(controllers + 1, "memory")) continue;
        left = fmin(left, left_upward(is_version_2 ? &version_2 : &version_1, root, group));
    }
    fclose(file);
    return left;
}
