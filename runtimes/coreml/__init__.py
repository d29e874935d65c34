"""Core ML on hosts without Apple's framework: a saved `.mlpackage`, read back and interpreted in numpy."""
