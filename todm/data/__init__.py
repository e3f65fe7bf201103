"""Corpora, features, tokenizer, augmentation and loading of batches."""
