"""What several layers need and none owns: processes, seeds, signals, files, locks, digests, devices."""
