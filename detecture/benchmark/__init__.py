"""The benchmark: which methods meet which data sets, what each may know, and what came out."""
