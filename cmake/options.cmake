# Every choice a build has. A fresh configure with none of them given makes a Release build for this processor.
option(HALFTONE_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(HALFTONE_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(HALFTONE_BENCH "Build the benchmarks" OFF)
option(HALFTONE_NATIVE "Use every instruction of this machine's processor" ON)
option(HALFTONE_WERROR "Treat warnings as errors" OFF)

set(HALFTONE_CUDA AUTO CACHE STRING "AUTO (nvcc and a GPU are found), ON, OFF, or SIM (simulated on the CPU)")
set(HALFTONE_ONEDNN AUTO CACHE STRING "AUTO (when it is found), ON or OFF")
set(HALFTONE_SANITIZE "" CACHE STRING "Sanitizers for the whole build: empty, address,undefined or thread")
set_property(CACHE HALFTONE_CUDA PROPERTY STRINGS AUTO ON OFF SIM)
set_property(CACHE HALFTONE_ONEDNN PROPERTY STRINGS AUTO ON OFF)
set_property(CACHE HALFTONE_SANITIZE PROPERTY STRINGS "" "address,undefined" "thread")

foreach(option HALFTONE_CUDA HALFTONE_ONEDNN)
  get_property(legal CACHE ${option} PROPERTY STRINGS)
  if(NOT ${option} IN_LIST legal)
    message(FATAL_ERROR "${option}=${${option}} is not one of: ${legal}")
  endif()
endforeach()

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
endif()
