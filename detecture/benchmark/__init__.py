"""The benchmark: which methods run on which data sets, what each may know, and the results."""
