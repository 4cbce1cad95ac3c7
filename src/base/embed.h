/* SPDX-License-Identifier: Apache-2.0 */
/* A file as a part of the program. */
#ifndef POD_BASE_EMBED_H
#define POD_BASE_EMBED_H

/** Puts a file's bytes into the read-only data as pod__image_<name>. */
#define POD_EMBED(name, path)                                                                                          \
    extern const unsigned char pod__image_##name[] __attribute__((visibility("hidden")));                              \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".balign 64\n"                                                                                             \
            ".global pod__image_" #name "\n"                                                                           \
            ".hidden pod__image_" #name "\n"                                                                           \
            "pod__image_" #name ":\n"                                                                                  \
            ".incbin \"" path "\"\n"                                                                                   \
            ".popsection\n");

#endif
