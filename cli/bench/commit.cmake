# SPDX-License-Identifier: Apache-2.0
# Writes OUTPUT with the commit of SOURCE, if it changed. Runs in every build.
execute_process(COMMAND git describe --always --dirty --abbrev=10 WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define BUILT_COMMIT \"${commit}\"\n" @ONLY)
