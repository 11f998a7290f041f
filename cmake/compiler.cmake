# How our own code is compiled: language, warnings, processor, sanitizers, compiler cache.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(HALFTONE_CXX "COMPILE_LANGUAGE:CXX")

add_library(halftone_flags INTERFACE)
target_compile_options(halftone_flags INTERFACE
  $<$<${HALFTONE_CXX}>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion>)
if(HALFTONE_WERROR)
  target_compile_options(halftone_flags INTERFACE $<$<${HALFTONE_CXX}>:-Werror>)
endif()

# The whole build or nothing: inline functions of a header must not differ between two object files.
if(HALFTONE_NATIVE)
  add_compile_options($<$<${HALFTONE_CXX}>:-march=native>)
endif()

if(HALFTONE_SANITIZE)
  if(NOT HALFTONE_SANITIZE MATCHES "^(address|undefined|address,undefined|thread)$")
    message(FATAL_ERROR "HALFTONE_SANITIZE=${HALFTONE_SANITIZE} is not one of: address,undefined | thread")
  endif()
  add_compile_options($<$<${HALFTONE_CXX}>:-fsanitize=${HALFTONE_SANITIZE}> $<$<${HALFTONE_CXX}>:-O1> -g1
    $<$<${HALFTONE_CXX}>:-fno-omit-frame-pointer> $<$<${HALFTONE_CXX}>:-fno-sanitize-recover=all>)
  # GCC takes instrumented code of the standard library for uses of uninitialised variables.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${HALFTONE_SANITIZE})
endif()

find_program(HALFTONE_CCACHE ccache)
if(HALFTONE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # -march=native means another thing on another processor, which ccache cannot see: its macros name the cache.
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null OUTPUT_VARIABLE macros ERROR_QUIET)
  string(SHA1 processor "${macros}")
  string(SUBSTRING ${processor} 0 12 processor)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
    CCACHE_NAMESPACE=halftone-${processor} ${HALFTONE_CCACHE})
endif()
