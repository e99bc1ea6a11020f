"""The five screens, each a module with its stylesheet beside it."""
