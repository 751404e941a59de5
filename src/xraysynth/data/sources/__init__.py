"""Sources of real images: one module and one yaml file per kind of collection."""
