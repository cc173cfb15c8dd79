"""Sections of the report and the atlas, as blocks. Each module holds one subject; the pages choose among them."""
