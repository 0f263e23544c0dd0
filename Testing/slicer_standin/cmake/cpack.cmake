standin_declare(PACKAGED ON)
