"""The engines that search, and the encodings they are made from."""
