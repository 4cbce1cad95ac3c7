# SPDX-License-Identifier: Apache-2.0
# Warnings, sanitizers and coverage for the fuzzers, for every target of the project.
add_compile_options(-Wall -Wextra -Wpedantic)
if(PODATTN_WERROR)
  add_compile_options(-Werror)
endif()

if(PODATTN_SANITIZE)
  # NOTE: clang 14 warns where a sanitizer keeps it from vectorising an `omp simd` loop.
  add_compile_options(-Wno-pass-failed)
  add_compile_options(-fsanitize=${PODATTN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${PODATTN_SANITIZE})
endif()

if(PODATTN_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
