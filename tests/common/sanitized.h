/* SPDX-License-Identifier: Apache-2.0 */
/* Whether AddressSanitizer or ThreadSanitizer is in the build. Both leave out of their reach what a test of `fork()`
   needs: ThreadSanitizer allows no threads after it, and AddressSanitizer's allocator may be locked in the child for
   ever, since a thread that was just beginning in the parent held its lock (clang 14; seen as a hang). */
#ifndef POD_TEST_SANITIZED_H
#define POD_TEST_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POD_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define POD_TEST_SANITIZED 1
#endif
#endif

#ifndef POD_TEST_SANITIZED
#define POD_TEST_SANITIZED 0
#endif

#endif
