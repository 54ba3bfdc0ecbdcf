"""From embeddings to identifiers: fitting a scheme, assigning its values, reporting on them (CART 3.2)."""
