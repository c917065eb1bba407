"""The page: what people look at. It reads the record and changes nothing; `routes` is where it begins."""
