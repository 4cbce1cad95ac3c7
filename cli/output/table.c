/* SPDX-License-Identifier: Apache-2.0 */
#include "output/table.h"

#include <stdarg.h>
#include <string.h>

table table_begin(int num_columns) {
    return (table){.num_columns = num_columns};
}

void table_cell(table *table, const char *format, ...) {
    if (table->num_cells == TABLE_MAX_ROWS * table->num_columns) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(table->cells[table->num_cells++], TABLE_CELL_CHARS, format, arguments);
    va_end(arguments);
}

static int column_width(const table *table, int column) {
    int width = 0;
    for (int i = column; i < table->num_cells; i += table->num_columns) {
        int length = (int)strlen(table->cells[i]);
        if (length > width) width = length;
    }
    return width;
}

void table_print(const table *table, FILE *file) {
    for (int i = 0; i < table->num_cells; i++) {
        int column = i % table->num_columns, width = column_width(table, column);
        if (column == 0) {
            fprintf(file, "  %-*s", width, table->cells[i]);
        } else {
            fprintf(file, "  %*s", width, table->cells[i]);
        }
        if (column + 1 == table->num_columns) fputc('\n', file);
    }
}
