/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of both versions, made up in a folder. */
#include "run/memory_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_MADE = 64, PATH_BYTES = 256 };

static char root[] = "/tmp/podattn-groups-XXXXXX";
static char made[MAX_MADE][PATH_BYTES];
static int num_made;

/** A file below the root with the folders that it needs. */
static void put(const char *name, const char *text) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        if (mkdir(path, 0700) == 0) snprintf(made[num_made++], PATH_BYTES, "%s", path);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    snprintf(made[num_made++], PATH_BYTES, "%s", path);
}

static double left(const char *membership) {
    char path[PATH_BYTES];
    put("membership", membership);
    snprintf(path, sizeof path, "%s/membership", root);
    return memory_group_left(path, root);
}

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/podattn-groups-XXXXXX"); /* as before the last test */
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    while (num_made > 0) remove(made[--num_made]);
    return rmdir(root);
}

static void test_version_2(void **state) {
    (void)state;
    put("a/b/memory.max", "max\n");
    put("a/b/memory.current", "100\n");
    assert_true(isinf(left("0::/a/b\n")));
    put("a/memory.max", "1000\n");
    put("a/memory.current", "300\n");
    assert_true(left("0::/a/b\n") == 700); /* a limit above it holds too */
    put("a/memory.stat", "anon 250\ninactive_file 50\nactive_file 0\n");
    assert_true(left("0::/a/b\n") == 750);
    put("a/b/memory.max", "150\n");
    assert_true(left("0::/a/b\n") == 50);
    assert_true(left("0::/a\n") == 750);
    put("memory.max", "60\n");
    put("memory.current", "30\n");
    assert_true(left("0::/a\n") == 30);
    put("memory.current", "90\n");
    assert_true(left("0::/a/b\n") == 0);
}

static void test_version_1(void **state) {
    (void)state;
    put("memory/jobs/memory.limit_in_bytes", "5000\n");
    put("memory/jobs/memory.usage_in_bytes", "4000\n");
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/memory.usage_in_bytes", "6000\n");
    assert_true(left("9:name=systemd:/\n4:memory:/jobs/7\n0::/\n") == 1000);
    put("memory/jobs/memory.stat", "cache 900\ninactive_file 1\ntotal_inactive_file 800\n");
    assert_true(left("4:memory:/jobs\n") == 1800);
    assert_true(left("4:cpu,memory:/jobs\n") == 1800);
    assert_true(left("4:memory:/\n") > 1e18);
    assert_true(isinf(left("4:cpu,memory2:/jobs\n")));
}

/** A container may see the host's path of its group, of which it has only the root; or one that leads outside. */
static void test_container(void **state) {
    (void)state;
    put("memory.max", "500\n");
    put("memory.current", "100\n");
    assert_true(left("0::/docker/1234\n") == 400);
    assert_true(left("0::/../../outside\n") == 400);
    assert_true(isinf(left("")) && isinf(left("nothing\n")) && isinf(memory_group_left("/nowhere", root)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_version_2, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_version_1, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_container, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
