"""`kubectl virt`: power, console and removal of VMs, as a kubectl plugin (the program is `kubectl-virt`)."""
