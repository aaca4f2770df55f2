"""The siege: kills, full disks, broken answers and broken files, many of each; see `__main__`."""
