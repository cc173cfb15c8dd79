"""Which planted mechanisms a method must find, and which it cannot."""
