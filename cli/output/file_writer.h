/* SPDX-License-Identifier: Apache-2.0 */
/* How every file is written: whole, under another name, and then renamed, so that no half is ever seen. */
#ifndef CLI_FILE_WRITER_H
#define CLI_FILE_WRITER_H

#include "cli_error.h"
#include "output/text_buffer.h"

/**
 * Makes `text` the contents of a file. If that fails, what was there is there still, and nothing new beside it; the
 * same if a signal ends the program meanwhile. Symbolic links are followed. A file that was there keeps its mode, and
 * its owner where the system allows it.
 */
cli_exit file_write(const char *path, const text_buffer *text, cli_error *error);

/** The same, and keeps the file to add to: `*descriptor` is open for writing at its end, and holds file_lock()'s lock.
 */
cli_exit file_write_and_keep(const char *path, const text_buffer *text, int *descriptor, cli_error *error);

/** Makes sure that no other process that asks writes the file, which is made, empty, if it is not there. Holds as long
 * as the descriptor is open. */
cli_exit file_lock(const char *path, int *descriptor, cli_error *error);

#endif
