"""`bmctl`: clusters on this machine, and the switch of the VM runtime on any cluster."""
