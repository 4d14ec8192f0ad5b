"""Vectors in Milvus: the shared originals, and each user's copies beside them."""
