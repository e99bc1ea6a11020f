"""How long a run takes: from this machine's past runs, or from what its chip can do."""
