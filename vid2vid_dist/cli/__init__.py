"""The commands: arguments, messages, exit codes."""
