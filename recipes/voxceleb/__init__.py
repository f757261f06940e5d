"""Speaker verification on VoxCeleb: from the published folders to the table of the paper."""
