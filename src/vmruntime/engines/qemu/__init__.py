"""The engine for one machine: QEMU processes, disk images and networks.

All modules but `engine` (and what it keeps beside it) know no Kubernetes: they take plain values, and can be tried
from a shell. `config` says what a machine is, `argv` turns that into a command line, `qmp` speaks to the process,
`images`, `download` and `importer` bring disks in, `seed` and `network` prepare what a guest finds around it, `kvm`
finds out what the host can do, `console` connects a person to the serial port.
"""
