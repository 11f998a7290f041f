# The arithmetic: full optimization, and libraries that no other layer sees.
halftone_has_sources(kernels has_sources)
if(NOT has_sources)
  return()
endif()

halftone_use_headers(kernels Eigen3::Eigen)
target_compile_definitions(halftone_kernels PRIVATE HALFTONE_HAS_ONEDNN=${HALFTONE_HAS_ONEDNN})
if(HALFTONE_HAS_ONEDNN)
  halftone_link_private(kernels oneDNN::oneDNN)
endif()

# Nobody reads errno or floating-point traps, and loops with them do not vectorize. Infinities and NaN keep their meaning.
target_compile_options(halftone_kernels PRIVATE $<$<${HALFTONE_CXX}>:-fno-math-errno -fno-trapping-math>)
if(NOT HALFTONE_SANITIZE)
  target_compile_options(halftone_kernels PRIVATE $<$<AND:$<${HALFTONE_CXX}>,$<CONFIG:Release>>:-O3>)
endif()
