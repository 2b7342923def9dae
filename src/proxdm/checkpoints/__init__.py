"""Models on disk and on the hub. Nothing here unpickles objects."""
