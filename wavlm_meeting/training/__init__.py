"""What all trainings share: data on disk and how it is read."""
