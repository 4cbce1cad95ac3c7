/* SPDX-License-Identifier: Apache-2.0 */
#include "output/svg.h"

#include "output/format.h"

#include <math.h>

enum {
    WIDTH = 900,      /**< about what a page shows, so that texts keep their size */
    LEFT = 84,        /**< of the time axis */
    AXIS_WIDTH = 780, /**< pixels of the time axis */
    LEGEND_TOP = 74,
    SUMMARY_TOP = 118,
    ROWS_TOP = 206,
    NUM_COLOURS = 4,
    MAX_BARS = 16000, /**< beyond that, neighbours of one request become one bar */
    MAX_LEGEND = 2,   /**< requests named per kind */
};

/** Warm colours are prefill and cool ones decode; requests take turns. */
static const char *const palettes[2][NUM_COLOURS] = {
    {"#e8590c", "#f59f00", "#c92a2a", "#ff922b"},
    {"#1864ab", "#4dabf7", "#1c7ed6", "#22b8cf"},
};

typedef struct picture {
    const timeline *timeline;
    const batch_spec *spec;
    FILE *file;
    double us_to_px;
    double row_px; /**< height of a row, its gap included */
} picture;

static const char *request_colour(pod_work_kind kind, int32_t request) {
    return palettes[kind][request % NUM_COLOURS];
}

static double x_of(const picture *p, double us) {
    return LEFT + us * p->us_to_px;
}

/** 1, 2 or 5 times a power of ten, so that about eight ticks fit. */
static double tick_step_us(double span_us) {
    double rough = span_us / 8, power = pow(10, floor(log10(rough)));
    return rough <= power ? power : rough <= 2 * power ? 2 * power : rough <= 5 * power ? 5 * power : 10 * power;
}

static void draw_tick(const picture *p, double us, double bottom, const char *unit) {
    double x = x_of(p, us);
    fprintf(p->file, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%.1f' stroke='#dee2e6'/>\n", x, x, SUMMARY_TOP - 6, bottom);
    fprintf(p->file, "<text x='%.1f' y='%.1f' text-anchor='middle' class='s'>%.4g%s</text>\n", x, bottom + 16, us,
            unit);
}

/** Round numbers as far as they leave room for the axis's end, which is the last tick. */
static void draw_axis(const picture *p, double span_us, double bottom) {
    double step_us = tick_step_us(span_us);
    for (int i = 0; i * step_us <= span_us - 0.6 * step_us; i++) draw_tick(p, i * step_us, bottom, "");
    draw_tick(p, span_us, bottom, " us");
}

static void draw_summary_bar(const picture *p, int y, double begin_us, double end_us, const char *colour,
                             const char *label) {
    if (end_us <= begin_us) return;
    double width = (end_us - begin_us) * p->us_to_px;
    fprintf(p->file, "<rect x='%.1f' y='%d' width='%.1f' height='24' fill='%s'/>\n", x_of(p, begin_us), y, width,
            colour);
    if (width < 9.0 * (double)strlen(label)) return;
    fprintf(p->file, "<text x='%.1f' y='%d' text-anchor='middle' fill='white'>%s</text>\n",
            x_of(p, (begin_us + end_us) / 2), y + 17, label);
}

/** What the picture is about: the two lengths one above the other. */
static void draw_summary(const picture *p) {
    const timeline *t = p->timeline;
    double serial_us = t->prefill_alone_us + t->decode_alone_us;
    char label[96];
    fprintf(p->file, "<text x='%d' y='%d' text-anchor='end'>serial</text>\n", LEFT - 8, SUMMARY_TOP + 17);
    snprintf(label, sizeof label, "prefill alone %.1f us", t->prefill_alone_us);
    draw_summary_bar(p, SUMMARY_TOP, 0, t->prefill_alone_us, palettes[POD_WORK_PREFILL][0], label);
    snprintf(label, sizeof label, "decode alone %.1f us", t->decode_alone_us);
    draw_summary_bar(p, SUMMARY_TOP, t->prefill_alone_us, serial_us, palettes[POD_WORK_DECODE][0], label);
    fprintf(p->file, "<text x='%d' y='%d' text-anchor='end' font-weight='bold'>fused</text>\n", LEFT - 8,
            SUMMARY_TOP + 47);
    snprintf(label, sizeof label, "both together %.1f us: %.2f x faster", t->makespan_us, serial_us / t->makespan_us);
    draw_summary_bar(p, SUMMARY_TOP + 30, 0, t->makespan_us, "#2b8a3e", label);
}

/** The smallest request after `previous` that has bars of a kind, or -1. */
static int32_t next_request(const timeline *timeline, pod_work_kind kind, int32_t previous) {
    int32_t next = -1;
    for (int64_t b = 0; b < timeline->num_bars; b++) {
        const timeline_bar *bar = &timeline->bars[b];
        if (bar->kind == kind && bar->request > previous && (next < 0 || bar->request < next)) next = bar->request;
    }
    return next;
}

/** The first requests of a kind with their colours; returns the x after them. */
static double draw_legend_kind(const picture *p, pod_work_kind kind, const char *word, double x) {
    int32_t request = next_request(p->timeline, kind, -1);
    if (request < 0) return x;
    fprintf(p->file, "<text x='%.1f' y='%d' font-weight='bold'>%s</text>\n", x, LEGEND_TOP + 12, word);
    x += 62;
    for (int i = 0; i < MAX_LEGEND && request >= 0; i++) {
        const batch_request *lengths = &p->spec->requests[request];
        char label[64];
        int length = snprintf(label, sizeof label, "request %d: %s @ %s", request, format_count(lengths->q_len).text,
                              format_count(lengths->kv_len).text);
        fprintf(p->file, "<rect x='%.1f' y='%d' width='12' height='12' fill='%s'/>\n", x, LEGEND_TOP + 1,
                request_colour(kind, request));
        fprintf(p->file, "<text x='%.1f' y='%d' class='s'>%s</text>\n", x + 16, LEGEND_TOP + 12, label);
        x += 30 + 6.4 * length;
        request = next_request(p->timeline, kind, request);
    }
    if (request >= 0) fprintf(p->file, "<text x='%.1f' y='%d' class='s'>…</text>\n", x - 6, LEGEND_TOP + 12);
    return x + 24;
}

static void draw_bar(const picture *p, const timeline_bar *bar) {
    double lane_px = (p->row_px - fmax(1, p->row_px / 8)) / p->timeline->num_lanes;
    double gap_px = lane_px > 6 ? 0.8 : 0.2; /* between neighbours on a lane */
    double width = fmax((bar->end_us - bar->begin_us) * p->us_to_px - gap_px, 0.3);
    fprintf(p->file, "<rect x='%.2f' y='%.2f' width='%.2f' height='%.2f' fill='%s'>", x_of(p, bar->begin_us),
            ROWS_TOP + bar->row * p->row_px + bar->lane * lane_px, width, lane_px,
            request_colour(bar->kind, bar->request));
    fprintf(p->file, "<title>%s, request %d, %.1f to %.1f us</title></rect>\n",
            bar->kind == POD_WORK_PREFILL ? "prefill" : "decode", bar->request, bar->begin_us, bar->end_us);
}

static int can_join(const timeline_bar *a, const timeline_bar *b) {
    return a->row == b->row && a->lane == b->lane && a->kind == b->kind && a->request == b->request;
}

static void draw_bars(const picture *p) {
    const timeline *t = p->timeline;
    int is_joined = t->num_bars > MAX_BARS;
    for (int64_t b = 0; b < t->num_bars;) {
        timeline_bar bar = t->bars[b++];
        while (is_joined && b < t->num_bars && can_join(&bar, &t->bars[b])) bar.end_us = t->bars[b++].end_us;
        draw_bar(p, &bar);
    }
}

static void draw_row_names(const picture *p, const char *row_name) {
    int32_t num_rows = p->timeline->num_rows, step = num_rows > 40 ? 10 : num_rows > 16 ? 4 : 1;
    for (int32_t row = 0; row < num_rows; row += step) {
        fprintf(p->file, "<text x='%d' y='%.1f' text-anchor='end' class='s'>%s %d</text>\n", LEFT - 8,
                ROWS_TOP + (row + 0.5) * p->row_px + 4, row_name, row);
    }
}

/** For whom the picture cannot be seen, and what a browser shows of it. */
static void write_description(const picture *p, const svg_caption *caption) {
    const timeline *t = p->timeline;
    fprintf(p->file,
            "<title>%s on %s: a simulated schedule</title>\n"
            "<desc>Serial takes %.1f us, prefill %.1f and then decode %.1f; fused takes %.1f us. %s</desc>\n",
            caption->title, caption->target, t->prefill_alone_us + t->decode_alone_us, t->prefill_alone_us,
            t->decode_alone_us, t->makespan_us, caption->machine->row_text);
}

static void draw_heading(const picture *p, const svg_caption *caption) {
    fprintf(p->file, "<text x='16' y='30' font-size='19' font-weight='bold'>%s on %s, simulated</text>\n",
            caption->title, caption->target);
    fprintf(p->file, "<text x='16' y='52' class='s'>%s</text>\n", caption->machine->row_text);
    double x = draw_legend_kind(p, POD_WORK_PREFILL, "prefill", 16);
    draw_legend_kind(p, POD_WORK_DECODE, "decode", x);
}

void svg_write(const timeline *timeline, const batch_spec *spec, const svg_caption *caption, FILE *file) {
    double serial_us = timeline->prefill_alone_us + timeline->decode_alone_us;
    double span_us = fmax(serial_us, timeline->makespan_us);
    picture p = {timeline, spec, file, AXIS_WIDTH / span_us, 0};
    p.row_px = fmin(fmax(1200.0 / timeline->num_rows, 6), 30);
    double bottom = ROWS_TOP + timeline->num_rows * p.row_px + 4;
    fprintf(file,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %.0f' role='img' font-family='sans-serif' "
            "font-size='14'>\n",
            WIDTH, bottom + 28);
    write_description(&p, caption);
    fputs("<style>.s{font-size:12px;fill:#495057}</style>\n<rect width='100%' height='100%' fill='white'/>\n", file);
    draw_heading(&p, caption);
    draw_axis(&p, span_us, bottom);
    draw_summary(&p);
    draw_row_names(&p, caption->machine->kernel.row_name);
    draw_bars(&p);
    double end_x = x_of(&p, timeline->makespan_us);
    fprintf(file, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%.1f' stroke='#2b8a3e' stroke-width='1.5'/>\n", end_x, end_x,
            SUMMARY_TOP + 54, bottom);
    fprintf(file, "</svg>\n");
}
