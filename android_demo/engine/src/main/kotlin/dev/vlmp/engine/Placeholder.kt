package dev.vlmp.engine

class Placeholder
