"""How much memory a recipe needs, from the shapes in config.json."""
