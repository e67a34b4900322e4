"""The papers' figures and tables: one function each, over a store of measured rows."""
