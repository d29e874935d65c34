"""`vlmp-profile`: where the time of a bundle goes, phase by phase, and what it takes in memory and on disk."""
