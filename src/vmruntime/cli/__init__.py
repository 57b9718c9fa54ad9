"""The commands people type: `bmctl` and `kubectl virt`. A table of names, one module a command, imported on use."""
