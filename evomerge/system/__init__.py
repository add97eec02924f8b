"""What belongs to the machine rather than to merging: files, memory, time, finding things by name."""
