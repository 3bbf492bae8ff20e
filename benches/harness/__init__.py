"""What benches/run is made of: builds, processes, samples, tables. Standard library only."""
