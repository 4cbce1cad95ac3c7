/* SPDX-License-Identifier: Apache-2.0 */
/* Frequencies in double precision: once per call, so that neither a kernel nor a table rounds them. */
#include "cache/rope.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925

/** Llama 3: wavelengths beyond original_context / low_freq_factor are stretched, those below original_context /
 * high_freq_factor are not, and between the two the share changes evenly with the frequency. */
static double llama3_frequency(const pod_rope *rope, double frequency) {
    double periods = rope->original_context * frequency / TWO_PI; /* in the original context */
    double kept = (periods - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    kept = fmin(fmax(kept, 0), 1);
    return kept * frequency + (1 - kept) * frequency / rope->factor;
}

/** The pair, not whole, that turns `turns` times within the original context. */
static double pair_of_turns(const pod_rope *rope, double turns) {
    return rope->rotary_dim * log(rope->original_context / (turns * TWO_PI)) / (2 * log(rope->base));
}

/** YaRN: pairs that turn more than beta_fast times in the original context keep their frequency, those that turn less
 * than beta_slow times are stretched, and between the two the share changes evenly with the pair's number. */
static double yarn_frequency(const pod_rope *rope, double frequency, int32_t j) {
    double begin = pair_of_turns(rope, rope->beta_fast), end = pair_of_turns(rope, rope->beta_slow);
    if (!rope->yarn_is_exact) {
        begin = floor(begin);
        end = ceil(end);
    }
    begin = fmax(begin, 0);
    end = fmin(end, rope->rotary_dim - 1);
    if (begin == end) end += 0.001; /* as others do: a step */
    double stretched = fmin(fmax((j - begin) / (end - begin), 0), 1);
    return (1 - stretched) * frequency + stretched * frequency / rope->factor;
}

double pod__rope_frequency(const pod_rope *rope, int32_t j) {
    double frequency = pow(rope->base, -2.0 * j / rope->rotary_dim);
    switch (rope->scaling) {
    case POD_ROPE_UNSCALED:
        break;
    case POD_ROPE_LINEAR:
        return frequency / rope->factor;
    case POD_ROPE_LLAMA3:
        return llama3_frequency(rope, frequency);
    case POD_ROPE_YARN:
        return yarn_frequency(rope, frequency, j);
    }
    return frequency;
}

pod_rope_turns pod__rope_turns(const pod_rope *rope) {
    pod_rope_turns made = {.num_pairs = rope->rotary_dim / 2, .amplitude = 1};
    if (rope->scaling == POD_ROPE_YARN) made.amplitude = (float)rope->attention_factor;
    for (int32_t j = 0; j < made.num_pairs; j++) {
        double turns = pod__rope_frequency(rope, j) / TWO_PI, whole;
        double fixed = ldexp(modf(turns, &whole), 64);
        made.turns[j] = fixed < 0x1p64 ? (uint64_t)fixed : 0; /* what rounds to a whole turn is none */
    }
    return made;
}
