"""Encoders, one module for each family. `preprocess.encoders.loading` imports the module that it needs."""
