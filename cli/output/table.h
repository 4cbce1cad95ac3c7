/* SPDX-License-Identifier: Apache-2.0 */
/* A small text table: the first column to the left, the others to the right, each as wide as it must be. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdio.h>

enum { TABLE_MAX_COLUMNS = 8, TABLE_MAX_ROWS = 32, TABLE_CELL_CHARS = 32 };

typedef struct table {
    int num_columns;
    int num_cells;
    char cells[TABLE_MAX_ROWS * TABLE_MAX_COLUMNS][TABLE_CELL_CHARS];
} table;

table table_begin(int num_columns);
/** The next cell, row by row; the first row is the heading. */
void table_cell(table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const table *table, FILE *file);

#endif
