"""Converted files made into folders for timm and the Hugging Face hub."""
