"""How virtual machines are made real: a small protocol (`base`) and its implementations, one package each."""
