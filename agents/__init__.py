"""The five specialists, one file each."""
