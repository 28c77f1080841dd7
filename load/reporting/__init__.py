"""`make report`: one page from what `make bench`, `make load` and `make evidence` left in `load/reports/`."""
