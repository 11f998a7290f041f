# cmake --install gives headers under include/halftone, the archives, and find_package(halftone).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/halftone)

set(targets halftone)
foreach(layer IN LISTS HALFTONE_LAYERS)
  list(APPEND targets halftone_${layer})
  install(DIRECTORY ${layer} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/halftone FILES_MATCHING PATTERN "*.h"
    PATTERN cuda EXCLUDE PATTERN cpu EXCLUDE PATTERN no_cuda EXCLUDE)
endforeach()
file(GLOB umbrella CONFIGURE_DEPENDS halftone.h)
install(FILES ${umbrella} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/halftone)
install(TARGETS ${targets} EXPORT halftone ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT halftone NAMESPACE halftone:: DESTINATION ${config_dir} FILE halftone-targets.cmake)

configure_package_config_file(cmake/halftone-config.cmake.in halftone-config.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(halftone-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/halftone-config.cmake ${PROJECT_BINARY_DIR}/halftone-config-version.cmake
  cmake/FindoneDNN.cmake
  DESTINATION ${config_dir})
