"""Who talks at the same time, each on a track of their own."""
