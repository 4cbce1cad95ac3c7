/* SPDX-License-Identifier: Apache-2.0 */
/* A timeline as a picture: on one time axis what serial and fused take, then a row per CTA with its lanes. */
#ifndef CLI_SVG_H
#define CLI_SVG_H

#include "output/timeline.h"

#include <stdio.h>

/** What the picture says beside the bars. */
typedef struct svg_caption {
    const char *title;
    const char *target;
    const machine *machine;
} svg_caption;

void svg_write(const timeline *timeline, const batch_spec *spec, const svg_caption *caption, FILE *file);

#endif
