"""The dialogs of sweeps: one makes a sweep and says what it costs, one shows its report."""
