"""What is searched: collections and the objects in them."""
