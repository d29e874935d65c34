package dev.vlmp.engine

/** Keeps the module's place in the build until the engine comes: delete it then. */
class Placeholder
