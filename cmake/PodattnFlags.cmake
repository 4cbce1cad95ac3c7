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

if(PODATTN_SANITIZE STREQUAL "thread")
  # Without libarcher, by which clang's OpenMP runtime tells the sanitizer what its barriers order, every parallel loop is
  # reported. The runtime looks it up by name, for which only an old-style rpath of the program serves.
  cmake_path(GET OpenMP_omp_LIBRARY PARENT_PATH libomp_folder)
  find_library(PODATTN_ARCHER archer HINTS ${libomp_folder} REQUIRED)
  cmake_path(GET PODATTN_ARCHER PARENT_PATH archer_folder)
  add_link_options(-Wl,--disable-new-dtags,-rpath,${archer_folder})
endif()

if(PODATTN_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
