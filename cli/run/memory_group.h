/* SPDX-License-Identifier: Apache-2.0 */
/* What Linux control groups, of either version, leave this process of memory. */
#ifndef CLI_MEMORY_GROUP_H
#define CLI_MEMORY_GROUP_H

/** Bytes within the limits of the process's group and of all groups above it; pages of files that nobody uses count as
 * free. HUGE_VAL without limits. `membership` and `root` are /proc/self/cgroup and /sys/fs/cgroup. */
double memory_group_left(const char *membership, const char *root);

/** The first number in a file that `format`, for one double, finds at the beginning of a line; HUGE_VAL without. */
double memory_read_number(const char *path, const char *format);

#endif
