# Installs the build into a folder of its own, then configures, builds and runs a user's project against it.
set(place ${build}/tests/installed)
file(REMOVE_RECURSE ${place})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${output}\nfailed: ${ARGN}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${build} --prefix ${place}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${place}/build -G ${generator}
  -DCMAKE_PREFIX_PATH=${place}/prefix -DCMAKE_CXX_COMPILER=${compiler})
run(${CMAKE_COMMAND} --build ${place}/build)
run(${place}/build/user)
