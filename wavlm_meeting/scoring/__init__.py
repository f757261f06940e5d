"""Error rates of the tasks, by the field's own scoring packages."""
