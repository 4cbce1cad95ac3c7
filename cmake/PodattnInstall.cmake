# SPDX-License-Identifier: Apache-2.0
# Header, library, pkg-config file, CMake package and documentation. The command line installs itself in cli/.
include(CMakePackageConfigHelpers)

install(FILES include/podattn.h TYPE INCLUDE)
install(TARGETS podattn EXPORT podattn)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/podattn)
install(EXPORT podattn NAMESPACE podattn:: FILE podattnConfig.cmake DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/podattnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/podattnConfigVersion.cmake DESTINATION ${package_dir})

# The prefix is found from the file's own place, so that an install tree may be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
           OUTPUT_VARIABLE prefix_from_pc)
configure_file(cmake/podattn.pc.in podattn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/podattn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES LICENSE NOTICE README.md CHANGELOG.md TYPE DOC)
install(DIRECTORY docs TYPE DOC)
install(DIRECTORY examples TYPE DOC PATTERN CMakeLists.txt EXCLUDE)
