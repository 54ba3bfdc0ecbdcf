"""One module a family of encoders, which `preprocess.encoders.loading` imports when the family is asked for."""
