"""The contract: what a bundle is, how it is written and read. Imports neither torch nor the exporter."""
