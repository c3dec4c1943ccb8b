"""The commands, one file each: arguments, messages, exit status."""
