"""Text and cells, rendered without a widget."""
