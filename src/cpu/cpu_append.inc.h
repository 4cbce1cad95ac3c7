/* SPDX-License-Identifier: Apache-2.0 */
/* One row on its way into the cache: widened to float, rotated, divided, narrowed. */

static inline void row_load(const cpu_append_row *row, float *values) {
    const char *from = row->from;
    size_t bytes = pod_dtype_size(row->from_dtype);
    for (int32_t i = 0; i < row->dim; i += LANES) {
        vec_store(values + i, vec_load_as(from + (size_t)i * bytes, row->from_dtype, row->dim - i));
    }
}

static inline void row_store(const cpu_append_row *row, const float *values) {
    char *to = row->to;
    size_t bytes = pod_dtype_size(row->to_dtype);
    if (row->to_dtype == POD_F8E4M3) {
        for (int32_t i = 0; i < row->dim; i++) ((uint8_t *)row->to)[i] = pod__float_to_f8e4m3(values[i]);
        return;
    }
    for (int32_t i = 0; i < row->dim; i += LANES) {
        vec_store_as(to + (size_t)i * bytes, row->to_dtype, row->dim - i, vec_load(values + i));
    }
}

static inline void rotate_halves(const cpu_rotation *rotation, float *restrict low, float *restrict high) {
    for (int32_t j = 0; j < rotation->num_pairs; j++) {
        float x = low[j], y = high[j];
        low[j] = x * rotation->cos[j] - y * rotation->sin[j];
        high[j] = y * rotation->cos[j] + x * rotation->sin[j];
    }
}

static inline void rotate_pairs(const cpu_rotation *rotation, float *values) {
    for (int32_t j = 0; j < rotation->num_pairs; j++) {
        float x = values[2 * j], y = values[2 * j + 1];
        values[2 * j] = x * rotation->cos[j] - y * rotation->sin[j];
        values[2 * j + 1] = y * rotation->cos[j] + x * rotation->sin[j];
    }
}

static void append_row(const cpu_append_row *row) {
    if (row->rotation == NULL && row->from_dtype == row->to_dtype && row->scale == 1.0f) {
        memmove(row->to, row->from, (size_t)row->dim * pod_dtype_size(row->to_dtype)); /* NaNs as they are */
        return;
    }
    float values[POD_MAX_HEAD_DIM];
    row_load(row, values);
    if (row->rotation != NULL && row->rotation->style == POD_ROPE_HALVES) {
        rotate_halves(row->rotation, values, values + row->rotation->num_pairs);
    } else if (row->rotation != NULL) {
        rotate_pairs(row->rotation, values);
    }
    if (row->scale != 1.0f) {
        for (int32_t i = 0; i < row->dim; i++) values[i] /= row->scale;
    }
    row_store(row, values);
}

static void append_rotation(const pod_rope_turns *turns, int64_t position, cpu_rotation *rotation) {
    for (int32_t j = 0; j < turns->num_pairs; j++) {
        pod_rope_angle angle = pod_rope_core_angle(turns->turns[j], (uint64_t)position);
        rotation->cos[j] = turns->amplitude * angle.cos;
        rotation->sin[j] = turns->amplitude * angle.sin;
    }
}
