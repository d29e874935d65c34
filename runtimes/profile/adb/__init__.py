"""Profiling on an Android phone from this machine, through the adb program."""
