"""Models here and on the Hugging Face hub: listed, judged, downloaded and uploaded; without MLX."""
