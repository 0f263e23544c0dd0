# A stand-in of the Slicer package: an extension's CMake files run, and what they declare is written to
# ${CMAKE_BINARY_DIR}/declared.txt, one "key=value" a line; lists have their items separated by |.
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/generate_config.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/cpack.cmake)
