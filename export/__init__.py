"""From a checkpoint to a verified bundle. Import the parts; this package itself loads nothing heavy."""
