standin_declare(GENERATED_CONFIG ON)
