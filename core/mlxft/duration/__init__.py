"""How long a run takes: from this machine's past runs or its chip's specs."""
