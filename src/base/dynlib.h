/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of a library that is loaded at run time. */
#ifndef POD_BASE_DYNLIB_H
#define POD_BASE_DYNLIB_H

#include <dlfcn.h>
#include <string.h>

/** Looks a symbol up and stores its address where `function` points. Returns 0 where there is none. POSIX makes a
 * function of dlsym's object pointer valid; ISO C has only this way to write it. */
static inline int pod__find_symbol(void *library, const char *symbol, void *function) {
    void *address = dlsym(library, symbol);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

#endif
