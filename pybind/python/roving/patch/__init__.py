"""Have blocking calls of the standard library park the fiber that makes them."""
