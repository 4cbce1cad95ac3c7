/* SPDX-License-Identifier: Apache-2.0 */
#include "output/text_buffer.h"

#include <stdlib.h>

cli_exit text_begin(text_buffer *text, cli_error *error) {
    *text = (text_buffer){.data = NULL};
    text->file = open_memstream(&text->data, &text->size);
    return text->file != NULL ? CLI_OK : cli_fail_memory(error);
}

cli_exit text_end(text_buffer *text, cli_error *error) {
    int has_failed = ferror(text->file);
    has_failed |= fclose(text->file) != 0;
    text->file = NULL;
    return has_failed ? cli_fail_memory(error) : CLI_OK;
}

void text_free(text_buffer *text) {
    if (text->file != NULL) fclose(text->file);
    free(text->data);
    *text = (text_buffer){.data = NULL};
}
