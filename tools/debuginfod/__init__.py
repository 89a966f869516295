"""Programs and debug information by build-id, from debuginfod servers that the operator named."""
