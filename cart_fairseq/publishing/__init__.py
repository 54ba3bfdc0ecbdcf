"""MODEL folders: export, model card, upload to the Hugging Face Hub; and the files that searches read beside a model."""
