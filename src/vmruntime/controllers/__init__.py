"""The controllers: for each kind a pure `decide` (what is, what is wanted -> one next step) and a thin reconcile."""
