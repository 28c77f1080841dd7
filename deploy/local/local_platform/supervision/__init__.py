"""Processes: started, probed until they are ready, restarted, stopped; with the ports and files that belong to them."""
