"""What published benchmarks of long text share: where their files are, and how they are asked."""
