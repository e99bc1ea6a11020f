"""Records as files hold them: formats, validation, statistics and the batch plan."""
