"""Where core dumps and executables come from: paths, uploads, URLs, node folders, packed files, pipes."""
