"""Published folders: converted files in the layout of timm and the Hugging Face hub."""
