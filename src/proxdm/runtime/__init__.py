"""What several layers need and none owns: files, processes, seeds, registries, names with parameters."""
